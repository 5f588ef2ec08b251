"""Spec, plan, price, run folders, store and executors: everything that knows no tensors."""
