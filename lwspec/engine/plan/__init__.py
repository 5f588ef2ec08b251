"""The plan: cells and jobs of a spec, what of them is done, and what the rest costs."""
