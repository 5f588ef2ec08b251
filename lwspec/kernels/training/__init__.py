"""Fits: one trainer for every arm that is trained."""
