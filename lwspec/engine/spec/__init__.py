"""The spec: what a person writes in TOML, checked, in words that say where in the file."""
