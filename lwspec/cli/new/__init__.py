"""The text of a new spec, for `lwspec init`."""
