"""Evaluations and timings: scores, metrics, and the auditor's record."""
