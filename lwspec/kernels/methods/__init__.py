"""The tensors of the methods behind arms, one module each."""
