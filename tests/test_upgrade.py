"""A database of an older schema: migrated, what it was kept, and nothing lost on the way."""

from __future__ import annotations

import re
import resource
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from conftest import ENVIRONMENT

from lwspec.engine.store import migrations
from lwspec.engine.store import tables as db
from lwspec.engine.store.store import Store
from lwspec.engine.store.tables import SCHEMA_VERSION
from lwspec.errors import StoreError

SCHEMAS = Path(__file__).parent / "schemas"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A database of schema 1 as a real run left it."""
    path = tmp_path / "results.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((SCHEMAS / "1.sql").read_text(encoding="utf-8"))
    return path


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def schema(path: Path) -> dict[str, object]:
    """What creates each index and view, and the columns of each table, by name."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("select name, sql from sqlite_master where sql is not null")
        made: dict[str, object] = {name: " ".join(sql.split()) for name, sql in rows}
        for (table,) in connection.execute("select name from sqlite_master where type = 'table'"):
            columns = connection.execute(f"pragma table_info({table})").fetchall()
            made[table] = sorted((name, *rest) for _, name, *rest in columns)
        return made


def held(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """The rows of each table but about, in the columns of schema 1."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript((SCHEMAS / "1.sql").read_text(encoding="utf-8"))
        tables = connection.execute("select name from sqlite_master where type = 'table'")
        columns = {
            table: ", ".join(row[1] for row in connection.execute(f"pragma table_info({table})"))
            for (table,) in tables.fetchall()
        }
    return {
        table: sorted(rows(path, f"select {names} from {table}"), key=repr)
        for table, names in columns.items()
        if table != "about"
    }


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def backups(path: Path) -> list[Path]:
    """Every file beside the database but its own."""
    return sorted(other for other in path.parent.iterdir() if other.name != path.name)


def test_an_old_database_is_migrated_and_what_it_was_is_kept(old: Path) -> None:
    before, told = dump(old), held(old)
    store = Store(old, shared=True)
    assert store.backup is not None
    assert backups(old) == [store.backup]
    assert re.fullmatch(r"results\.db\.schema1\.[0-9T-]{17}\.bak", store.backup.name)
    assert dump(store.backup) == before
    assert held(old) == told
    assert rows(old, "select value from about where key = 'schema_version'") == [
        (str(SCHEMA_VERSION),)
    ]
    again = Store(old, shared=True)
    assert again.backup is None
    assert backups(old) == [store.backup]


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_a_migrated_database_is_like_one_made_today(version: int, tmp_path: Path) -> None:
    old, fresh = tmp_path / "old.db", tmp_path / "fresh.db"
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.executescript((SCHEMAS / f"{version}.sql").read_text(encoding="utf-8"))
        connection.execute("insert or ignore into about values ('schema_version', ?)", [version])
    store = Store(old, shared=True)
    assert store.migrated
    assert Store(fresh, shared=True).backup is None
    assert schema(old) == schema(fresh)
    with store.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), db.metadata) == []


def test_a_schema_never_changes_under_its_number(tmp_path: Path) -> None:
    """Where this fails: raise SCHEMA_VERSION and lwspec's version, write a migration and a file."""
    new, expected = tmp_path / "new.db", tmp_path / "expected.db"
    Store(new, shared=True)
    with closing(sqlite3.connect(expected)) as connection:
        connection.executescript((SCHEMAS / f"{SCHEMA_VERSION}.sql").read_text(encoding="utf-8"))
    assert schema(new) == schema(expected)


def test_a_migration_leads_to_each_schema() -> None:
    folder = str(Path(migrations.__file__).parent)
    scripts = ScriptDirectory(folder, version_locations=[folder]).walk_revisions()
    assert sorted(int(each.revision) for each in scripts) == list(range(2, SCHEMA_VERSION + 1))


def test_views_show_what_was_measured_and_what_ran(old: Path) -> None:
    Store(old, shared=True)
    shown = rows(
        old, "select spec, experiment, arm, task, seed, accuracy, message_bytes from results"
    )
    recorded = rows(
        old,
        "select c.plan, c.experiment, c.arm, c.task, "
        "case when c.arm != 'no_message' then c.seed end, m.value, b.value from cells c "
        "join metrics m on m.job = c.evaluate and m.name = 'accuracy' "
        "left join metrics b on b.job = c.evaluate and b.name = 'message_bytes'",
    )
    assert sorted(shown) == sorted(recorded)
    assert {row[2] for row in shown} == {"bridge", "no_message"}
    assert rows(old, "select * from timings") == []
    ran = rows(old, "select kind, label, outcome, started from runs order by started")
    assert [row[:3] for row in ran][0] == ("prepare", "data colour", "finished")
    assert len(ran) == 5
    assert all(re.fullmatch(r"2026-11-25 20:19:\d\d", str(row[3])) for row in ran)
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("delete from jobs where kind = 'fit'")
    assert rows(old, "select seed from results where arm = 'bridge'") == [(1,)]


INTERRUPTED = """\
import os, signal, sys
from pathlib import Path
from sqlalchemy import Engine, event
from lwspec.engine.store.store import Store

@event.listens_for(Engine, "connect")
def little_memory(connection, record):  # what is changed goes to the file at once
    connection.execute("PRAGMA cache_size = 1")

@event.listens_for(Engine, "after_cursor_execute")
def die(connection, cursor, statement, *rest):
    if statement.lstrip().startswith(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

Store(Path(sys.argv[1]), shared=True)
"""


@pytest.mark.parametrize("at", ["CREATE INDEX", "CREATE VIEW runs", "INSERT INTO about"])
def test_a_migration_that_is_killed_leaves_the_old_database(old: Path, at: str) -> None:
    before, size = dump(old), old.stat().st_size
    died = subprocess.run([sys.executable, "-c", INTERRUPTED, str(old), at], env=ENVIRONMENT)
    assert died.returncode == -signal.SIGKILL
    assert old.stat().st_size > size  # it was in the midst of it
    assert any(each.name == "results.db-journal" for each in backups(old))
    assert dump(old) == before
    assert Store(old, shared=True).backup is not None
    assert rows(old, "select count(*) from results") == [(2,)]


def test_a_migration_that_fails_leaves_the_old_database(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("create index cells_by_evaluate on cells (fit)")
    before = dump(old)
    with pytest.raises(StoreError, match="cells_by_evaluate already exists"):
        Store(old, shared=True)
    assert dump(old) == before
    assert backups(old) == []


def test_where_no_copy_can_be_kept_nothing_is_migrated(old: Path) -> None:
    before, (soft, hard) = dump(old), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (old.stat().st_size // 2, hard))
    try:
        with pytest.raises(StoreError, match="cannot keep a copy") as caught:
            Store(old, shared=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.remedy == "make room; the database is what it was"
    assert dump(old) == before
    assert backups(old) == []


WANTING = """\
import sys
from pathlib import Path
from lwspec.engine.store.store import Store

begin = Store.write

def write(self):
    print("wants to", flush=True)
    return begin(self)

Store.write = write
print(Store(Path(sys.argv[1]), shared=True).backup, flush=True)
"""


def test_of_processes_that_want_to_migrate_one_does_and_the_others_wait(old: Path) -> None:
    with closing(sqlite3.connect(old, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        started = [
            subprocess.Popen(
                [sys.executable, "-c", WANTING, str(old)],
                stdout=subprocess.PIPE,
                text=True,
                env=ENVIRONMENT,
            )
            for _ in range(3)
        ]
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "wants to\n"  # it has read that the schema is old
        holder.execute("ROLLBACK")
    said = [process.communicate(timeout=60)[0].strip() for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    (kept,) = backups(old)
    assert sorted(said) == sorted([str(kept), "None", "None"])
    assert rows(old, "select count(*) from results") == [(2,)]


@pytest.mark.parametrize("version", [str(SCHEMA_VERSION + 1), "0", "old", None])
def test_a_database_of_an_unknown_schema_is_left_alone(old: Path, version: str | None) -> None:
    with closing(sqlite3.connect(old)) as connection, connection:
        if version is None:
            connection.execute("delete from about where key = 'schema_version'")
        connection.execute("update about set value = ? where key = 'schema_version'", [version])
        connection.execute("update about set value = 'lwspec 7.2' where key = 'written_by'")
    before = dump(old)
    with pytest.raises(StoreError, match=f"has schema {version or 'none'}, of lwspec 7.2") as found:
        Store(old, shared=True)
    assert "pip install 'lwspec>=7.2'" in str(found.value)
    assert dump(old) == before
    assert backups(old) == []
