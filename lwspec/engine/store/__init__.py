"""results.db: what the run folders say, in tables that a person can query."""
