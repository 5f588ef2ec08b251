"""The views show what has no seed once: no table changes, and views are made anew anyway."""

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """From schema 2: nothing."""
