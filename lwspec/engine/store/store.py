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

from sqlalchemy import Connection, delete, insert, inspect, select
from sqlalchemy.exc import DBAPIError

from lwspec import __version__
from lwspec.engine.store.database import Database, engine_of, instead, named, remedy, set_journal
from lwspec.engine.store.tables import FILLED_ANEW, RESCAN, SCHEMA_VERSION, about, metadata
from lwspec.engine.store.views import views
from lwspec.errors import StoreError


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
        self.made = False
        """Whether there was nothing just now."""
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
        if version:
            from lwspec.engine.store.migrate import migrate  # most commands never need Alembic

            self.backup = migrate(connection, self.database, version)
            self.migrated = True
        else:
            metadata.create_all(connection, checkfirst=False)  # what others made is not ours
            self.made = True
        views.create_all(connection)
        connection.execute(delete(about))
        connection.execute(
            insert(about),
            [
                {"key": "schema_version", "value": str(SCHEMA_VERSION)},
                {"key": "written_by", "value": f"lwspec {__version__}"},
                *([{"key": RESCAN, "value": "due"}] if 0 < version < FILLED_ANEW else ()),
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
            remedy=remedy(self.database, error),
        )

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that reads one consistent state."""
        try:
            with self._engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            raise self._unusable("read", error.orig) from None
