"""The toy pair: two tiny causal LMs and the synthetic tasks they read."""
