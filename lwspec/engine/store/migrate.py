"""A database of an older schema, brought to this one; beside a file, what it was is kept.

All of it is one transaction, on PostgreSQL too: an interrupted migration leaves what was there. A
server's copies are its administrator's affair (pg_dump). Which schema a database has is said in
`about` alone, where an older lwspec looks too, not in Alembic's own table.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection

from lwspec.engine.store import migrations
from lwspec.engine.store.database import Database
from lwspec.engine.store.views import views
from lwspec.errors import StoreError


def migrate(connection: Connection, database: Database, version: int) -> Path | None:
    """Bring the tables from schema `version` to the newest, and drop the views, which may name what
    changes; returns the copy of what was in a file.

    `connection` holds the write lock, so that what is copied is what is migrated.
    """
    kept = _back_up(database, version) if isinstance(database, Path) else None
    try:
        views.drop_all(connection)
        with Operations.context(MigrationContext.configure(connection)):
            for script in _after(version):
                script.module.upgrade()
    except BaseException:
        if kept is not None:
            kept.unlink()  # the database itself is what it was
        raise
    return kept


def _after(version: int) -> Iterator[Script]:
    """The scripts that a database of this schema lacks, in their order."""
    folder = Path(migrations.__file__).parent
    scripts = ScriptDirectory(str(folder), version_locations=[str(folder)])
    for script in reversed(list(scripts.walk_revisions())):
        if int(script.revision) > version:
            yield script


def _back_up(path: Path, version: int) -> Path:
    """A copy of the database, complete or not there at all. Raises StoreError."""
    now = time.strftime("%Y-%m-%dT%H%M%S")
    kept = path.with_name(f"{path.name}.schema{version}.{now}.bak")
    begun = kept.with_name(f"{kept.name}.part")
    try:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(begun)) as copy:
            source.backup(copy)
        shutil.copymode(path, begun)
        begun.replace(kept)
    except (OSError, sqlite3.Error) as error:
        begun.unlink(missing_ok=True)
        raise StoreError(
            f"cannot keep a copy of the database before it is migrated: {error}",
            where=str(kept),
            remedy="make room; the database is what it was",
        ) from None
    return kept
