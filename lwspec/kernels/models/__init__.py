"""Frozen models: loaded, read once, asked with gradients and without."""
