"""results.db: what the run folders say, in tables that a person can query.

Only the command line opens it; jobs never do. It can be deleted and is rebuilt from `runs/`. One of
an older schema is migrated all the same: that takes seconds, and keeps what was recorded from run
folders that are damaged since.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    insert,
    inspect,
    select,
)
from sqlalchemy.exc import DBAPIError

from lwspec import __version__
from lwspec.engine.database import Database, engine_of, instead, named, remedy, set_journal
from lwspec.errors import StoreError

SCHEMA_VERSION = 2
"""Raised with any change to tables or views, and with lwspec's own version; `migrations/` says how
a database gets there from the one before."""
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


class Store:
    """The database, opened and checked; `write` and `read` give connections to it.

    Readers go on while another process writes; with SQLite (WAL) not where the file system may be
    `shared`: WAL needs memory that all who open the database share, and machines do not.
    """

    def __init__(self, database: Database, *, shared: bool) -> None:
        """Make it where there is none, migrate it where it is of an older schema.

        Raises StoreError where it is of a newer one, or out of reach.
        """
        self.database = database
        self.migrated = False
        """Whether it was of an older schema just now."""
        self.backup: Path | None = None
        """What it was then, where it is a file."""
        self._engine = engine_of(database)
        if isinstance(database, Path):
            try:
                set_journal(database, shared)
            except sqlite3.DatabaseError as error:
                raise self._unusable("open", error) from None
        with self.read() as connection:
            current = self._schema(connection) == SCHEMA_VERSION
        if not current:
            with self.write() as connection:
                self._set_up(connection)

    def _schema(self, connection: Connection) -> int:
        """The schema's number, 0 where there is nothing yet."""
        if not inspect(connection).has_table("about"):
            return 0
        said = {row.key: row.value for row in connection.execute(select(about))}
        version, wrote = said.get("schema_version", ""), said.get("written_by", "lwspec")
        if version.isdecimal() and 0 < int(version) <= SCHEMA_VERSION:
            return int(version)
        raise StoreError(
            f"the database has schema {version or 'none'}, of {wrote}; this lwspec {__version__} "
            f"knows schema {SCHEMA_VERSION}",
            where=named(self.database),
            remedy=f"pip install '{wrote.replace(' ', '>=')}', or {instead(self.database)}",
        )

    def _set_up(self, connection: Connection) -> None:
        """Make it or migrate it, unless another process was first."""
        version = self._schema(connection)
        if version == SCHEMA_VERSION:
            return
        from lwspec.engine.views import views  # these need what most commands never do

        if version:
            from lwspec.engine.migrate import migrate

            self.backup = migrate(connection, self.database, version)
            self.migrated = True
        else:
            metadata.create_all(connection, checkfirst=False)  # what others made is not ours
        views.create_all(connection)
        connection.execute(delete(about))
        connection.execute(
            insert(about),
            [
                {"key": "schema_version", "value": str(SCHEMA_VERSION)},
                {"key": "written_by", "value": f"lwspec {__version__}"},
                *([{"key": RESCAN, "value": "due"}] if version else ()),
            ],
        )

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that holds the write lock from its beginning."""
        try:
            with self._engine.connect().execution_options(lwspec_write=True) as connection:
                with connection.begin():
                    yield connection
        except DBAPIError as error:
            raise self._unusable("write", error.orig) from None

    def _unusable(self, what: str, error: BaseException | None) -> StoreError:
        return StoreError(
            f"cannot {what} the database: {str(error).strip()}",
            where=named(self.database),
            remedy=remedy(self.database),
        )

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that reads one consistent state."""
        try:
            with self._engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            raise self._unusable("read", error.orig) from None
