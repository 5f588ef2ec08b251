"""lwspec: declare, price, run and publish experiments with latent bridges between frozen models."""

__version__ = "0.2.0"
