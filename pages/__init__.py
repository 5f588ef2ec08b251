"""The documentation's generated parts: what mkdocs writes where a page asks for it."""
