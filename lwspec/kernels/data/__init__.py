"""Rows, what the sender made of them, and how they come in batches."""
