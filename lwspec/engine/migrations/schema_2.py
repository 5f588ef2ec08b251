"""Cells are found by their evaluations, as the views of results and timings do."""

from alembic import op

revision = "2"
down_revision = None


def upgrade() -> None:
    """From schema 1."""
    op.create_index("cells_by_evaluate", "cells", ["evaluate"])
