"""Where the records are kept: an SQLite file, or a database of a PostgreSQL server."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from lwspec.engine.redact import redact
from lwspec.errors import StoreError, UsageError

Database = Path | URL
"""A file, or the address of a database on a server."""
DRIVER = "postgresql+psycopg"
LOCK_WAIT_S = 60
CONNECT_S = "10"
"""A server that is silent for longer is out of reach, where its address says nothing else."""
_WRITERS = 0x6C7773706563
"""The advisory lock that writers hold, one at a time, in a PostgreSQL database."""
_LEAST_ROOM = 1 << 20
"""Bytes: with fewer, a disk counts as full, of which SQLite says that a file cannot be opened."""
_NOT_ALLOWED = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)
_REBUILT = "`lwspec status` rebuilds it from the run folders"
_BEGIN: Mapping[tuple[str, bool], Sequence[str]] = {
    ("sqlite", False): ["BEGIN"],
    ("sqlite", True): ["BEGIN IMMEDIATE"],
    ("postgresql", False): ["SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"],
    ("postgresql", True): [
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",  # to see what the last writer wrote
        f"SET LOCAL lock_timeout = '{LOCK_WAIT_S}s'",
        f"SELECT pg_advisory_xact_lock({_WRITERS})",
    ],
}
"""What begins a transaction that reads one state, or one that writes alone."""


def address(text: str) -> URL:
    """The address of a database. Raises UsageError, which repeats nothing of a password."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise UsageError("unreadable as an address: DRIVER://USER@HOST:PORT/NAME") from None
    if url.drivername not in ("postgresql", DRIVER):
        raise UsageError(f"another kind of server than {DRIVER}://; a file is named by its path")
    if "@" in (url.host or ""):
        raise UsageError("two @ in an address: that of a password is written %40")
    known = {"connect_timeout": CONNECT_S, "application_name": "lwspec", **url.query}
    return url.set(drivername=DRIVER, query=known)


def named(database: Database) -> str:
    """How a database is called in messages: without user and password."""
    if isinstance(database, Path):
        return str(database)
    shown = {
        key: value
        for key, value in database.query.items()
        if key not in ("connect_timeout", "application_name")
    }
    return redact(database.set(query=shown).render_as_string(hide_password=True))


def remedy(database: Database, error: BaseException | None) -> str:
    """What to do where it cannot be read or written, by what SQLite said and the disk's room."""
    if not isinstance(database, Path):
        return (
            "see that the server runs and lets you in (a password: ~/.pgpass), or "
            f"{instead(database)}"
        )
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_FULL or shutil.disk_usage(database.parent).free < _LEAST_ROOM:
        return "make room on its disk, which is full: nothing in it is lost"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "another program holds it: end that, then the same command again"
    if code in _NOT_ALLOWED:
        return "see that you may write the file and its folder, or name another with --db"
    return instead(database)


def instead(database: Database) -> str:
    """What else to do: nothing is lost with a database."""
    where = "move it away" if isinstance(database, Path) else "name a new database"
    return f"{where}: {_REBUILT}"


def engine_of(database: Database) -> Engine:
    """What makes connections to it: those with the option `lwspec_write` are one at a time.

    Raises StoreError where there is no driver.
    """
    engine = _file(database) if isinstance(database, Path) else _server(database)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = bool(connection.get_execution_options().get("lwspec_write", False))
        for statement in _BEGIN[engine.dialect.name, writes]:
            connection.exec_driver_sql(statement)

    return engine


def _file(path: Path) -> Engine:
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        URL.create("sqlite", database=str(path)), connect_args={"timeout": LOCK_WAIT_S}
    )

    @event.listens_for(engine, "connect")
    def _no_implicit_begin(connection: Any, record: Any) -> None:
        connection.isolation_level = None

    return engine


def _server(url: URL) -> Engine:
    """No connection outlives its transaction: a command may wait for hours between two."""
    try:
        return create_engine(url, poolclass=NullPool, json_serializer=_json, paramstyle="format")
    except ModuleNotFoundError as error:
        raise StoreError(
            f"{error.name} is not installed, which speaks to PostgreSQL",
            where=named(url),
            remedy="pip install 'lwspec[postgresql]'",
        ) from None


def _json(value: Any) -> str:
    """JSON that PostgreSQL can also look into. Raises psycopg's DataError where there is none."""
    from psycopg import DataError

    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise DataError(f"{error}: PostgreSQL's JSON has no NaN and no infinity") from None
    if "\\u0000" in text:
        raise DataError("PostgreSQL's JSON has no NUL character")
    return text


def set_journal(path: Path, shared: bool) -> None:
    """Have an SQLite file remember its journal mode. Raises sqlite3.DatabaseError.

    While another process has it open that fails, and whoever next opens it alone does it.
    """
    if not shared and path.exists() and path.stat().st_size > 0:
        return  # what was made for machines to share stays so
    wanted = "delete" if shared else "wal"
    try:
        with closing(sqlite3.connect(path, timeout=0)) as connection:
            (now,) = connection.execute("PRAGMA journal_mode").fetchone()
            if now != wanted:
                connection.execute(f"PRAGMA journal_mode = {wanted}")
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
