"""What status and plan look for is found by indexes, and so are the cells of an evaluation."""

from alembic import op
from sqlalchemy import Column, Integer, String

revision = "2"
down_revision = None


def upgrade() -> None:
    """From schema 1. The new columns are filled from the run folders, which are read again."""
    op.add_column("jobs", Column("below", String))
    op.create_index("jobs_seen", "jobs", ["settled", "id", "folder_mtime_ns", "below"])
    for column in (
        Column("gpu", String),
        Column("cost_version", Integer),
        Column("price_key", String),
    ):
        op.add_column("attempts", column)
    op.create_index("attempts_spent", "attempts", ["spec", "device_s"])
    op.create_index(
        "attempts_measured",
        "attempts",
        ["price_key", "cost_version", "gpu", "modelled_s", "device_s"],
    )
    op.create_index("cells_by_evaluate", "cells", ["evaluate"])
