"""The tables of results.db."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
)

SCHEMA_VERSION = 3
"""Raised with any change to tables or views, and with lwspec's own version; `migrations/` says how
a database gets there from the one before."""
FILLED_ANEW = 2
"""Older schemas lack columns that only another look at all run folders fills."""
RESCAN = "rescan"
"""The key in `about` while columns that a migration added are still to be filled."""

metadata = MetaData()

about = Table(
    "about",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", String, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("step", String, nullable=False),
    Column("label", String, nullable=False),
    Column("settings", JSON, nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("outputs", JSON, nullable=False),
    Column("folder_mtime_ns", BigInteger, nullable=False),
    Column("below", String),  # how its attempts looked, while it is not settled
    Column("settled", Boolean, nullable=False),
    Index("jobs_seen", "settled", "id", "folder_mtime_ns", "below"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("spec", String),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("outcome", String),
    Column("message", String),
    Column("host", String),
    Column("hardware", String),
    Column("git_sha", String),
    Column("dirty", Boolean),
    Column("command", String),
    Column("wall_s", Float),
    Column("device_s", Float, nullable=False),
    Column("peak_bytes", BigInteger),
    Column("modelled_s", Float),
    Column("gpu", String),
    Column("cost_version", Integer),
    Column("price_key", String),  # where it is a measurement of what its like cost
    Column("progress", JSON),
    Column("evidence", JSON),
    Column("events_read", BigInteger, nullable=False),
    Index("attempts_spent", "spec", "device_s"),
    Index("attempts_measured", "price_key", "cost_version", "gpu", "modelled_s", "device_s"),
)

outputs = Table(
    "outputs",
    metadata,
    Column("job", String, primary_key=True),
    Column("output", String, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("taken_at", Float, nullable=False),
    Column("files", JSON, nullable=False),
    Column("facts", JSON, nullable=False),
)

metrics = Table(
    "metrics",
    metadata,
    Column("job", String, primary_key=True),
    Column("output", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("value", Float, nullable=False),
)

points = Table(
    "points",
    metadata,
    Column("job", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("value", Float),
)

cells = Table(
    "cells",
    metadata,
    Column("plan", String, primary_key=True),
    Column("experiment", String, primary_key=True),
    Column("arm", String, primary_key=True),
    Column("task", String, primary_key=True),
    Column("seed", BigInteger, primary_key=True),
    Column("point", String, primary_key=True),
    Column("fit", String),
    Column("evaluate", String, nullable=False),
    Index("cells_by_evaluate", "evaluate"),
)
