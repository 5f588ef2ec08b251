"""`lwspec status --watch`: what there is to see of a plan that runs, and one screen of it."""
