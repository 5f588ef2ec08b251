"""The records on a PostgreSQL server: the same as in a file, row by row, and as safe."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from conftest import ENVIRONMENT, Project
from faults import commands, fake_work
from faults import project as counting
from postgres import Server, running
from slurm.fixtures import FAKE, HEAD, ROOT, TAIL, TASK
from sqlalchemy import URL, Boolean, MetaData, create_engine, text
from test_many_at_once import COMMANDS, at_once, nobody_saw_a_lock

from lwspec.cli import main
from lwspec.engine.job import Job
from lwspec.engine.plan.records import read_records
from lwspec.engine.runs.attempt import AttemptFolder
from lwspec.engine.runs.jsonfile import write_json
from lwspec.engine.runs.process import this_process
from lwspec.engine.runs.runfolder import Runs
from lwspec.engine.store import tables as db
from lwspec.engine.store.ingest import ingest
from lwspec.engine.store.store import Store
from lwspec.errors import StoreError

SHOWN = (*db.metadata.tables, "results", "timings", "runs")
SCHEMA_1 = Path(__file__).parent / "schemas" / "1.sql"


@pytest.fixture(scope="module", autouse=True)
def warmed() -> None:
    commands.warm()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as started:
        yield started


def rows(store: Store) -> dict[str, list[tuple[str, ...]]]:
    """Every row of every table and view, as a person sees it, in an order of its own."""
    shown = {}
    with store.read() as connection:
        for name in SHOWN:
            table = db.metadata.tables.get(name)
            view = text(f"SELECT * FROM {name}").columns(dirty=Boolean)
            query = view if table is None else table.select()
            found = connection.execute(query).mappings()
            shown[name] = sorted(tuple(f"{k}={row[k]!r}" for k in sorted(row)) for row in found)
    return shown


def in_a_file(runs: Path, path: Path) -> Store:
    """What these runs are in SQLite."""
    store = Store(path, shared=False)
    ingest(Runs(runs), store)
    return store


def begun(runs: Runs, name: str, **settings: Any) -> AttemptFolder:
    its = Job(f"fit-{name}", "fit", "bridge", settings, {}, ("result",), name, {})
    record = {**its.to_json(), "charge": 1, "allowance_s": 1.0}
    write_json(runs.folder(its.id).path / "job.json", record)
    return runs.folder(its.id).begin_attempt()


def end(runs: Runs, attempt: AttemptFolder, message: str | None = None, **facts: Any) -> None:
    made = {"files": {}, "metrics": {"accuracy": 1 / 3}, "facts": facts, "finished_at": 1.0}
    runs.folder(attempt.path.parent.name).take(attempt, "result", made)
    ended = {"outcome": "finished", "ended_at": 1e9 + 0.9996, "wall_s": 1.0, "device_s": 0.1}
    attempt.end({**ended, "message": message})


def test_a_plan_that_runs_leaves_the_same_rows_as_in_a_file(server: Server) -> None:
    typed, url = server.database()
    project = counting.Project()
    for verb in ("plan", "submit", "status"):
        more = ["--yes"] if verb == "submit" else []
        ended = project.run(verb, "small.toml", "--db", typed, *more)
        assert ended.status == 0, ended.printed
    assert not project.problems and not (project.folder / "results.db").exists()
    store = Store(url, shared=False)
    there, here = rows(store), rows(in_a_file(project.runs, project.folder / "other.db"))
    assert there == here
    assert all(there[name] for name in SHOWN if name != "timings")
    assert {row for row in there["runs"] if "outcome='finished'" in row} == set(there["runs"])

    with store.write() as connection:
        for spoilt in ("metrics SET value = 0.5", "points SET value = 7", "attempts SET host = ''"):
            connection.execute(text(f"UPDATE {spoilt}"))
        connection.execute(text("DELETE FROM outputs"))
    assert rows(store) != here
    ended = project.run("status", "small.toml", "--rescan", "--db", typed)
    assert ended.status == 0 and rows(store) == here
    project.remove()


def test_a_report_has_the_same_bytes_as_from_a_file(
    server: Server,
    finished: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    typed, _ = server.database()
    (tmp_path / "git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", str(tmp_path))  # without LaTeX
    monkeypatch.chdir(finished.folder)
    made, said = [], []
    for name, more in (("file", []), ("server", ["--db", typed])):
        paper = tmp_path / name
        assert main(["report", "small.toml", "--paper", str(paper), *more]) == 0
        capsys.readouterr()
        assert main(["why", "main:bridge/colour", "--spec", "small.toml", *more]) == 0
        said.append(capsys.readouterr().out)
        made.append({p.relative_to(paper): p.read_bytes() for p in paper.rglob("*.*")})
    assert made[0] == made[1] and len(made[0]) > 4
    assert said[0] == said[1] != ""


def test_odd_values_are_kept_as_in_a_file(server: Server, tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    attempt = begun(runs, "odd", prompt="é\u2028\U0001f600 \\ ' \" %s :x ?", point={"b": 1, "a": 2})
    for step, value in enumerate([float("nan"), float("inf"), -0.5, 5e-324, 2**53 + 1, 7, None]):
        attempt.append_event("metric", step=step - 2**63, values={"loss %s": value})
        attempt.append_event("metric", step=step - 2**63, values={"loss %s": 3.0})  # came late
    end(runs, attempt, "a\nb\t\x1b[2J", large=2**70, nested={"z": [1.0, None], "a": True})
    store = Store(server.database()[1], shared=False)
    assert ingest(runs, store) == []
    there = rows(store)
    assert there == rows(in_a_file(runs.path, tmp_path / "file.db"))
    assert server.has_left("lwspec")  # no connection is kept open
    assert len(there["points"]) == 7 and "value=None" in there["points"][0]


def test_a_plan_is_told_the_same_of_the_past(server: Server, tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    evidence = {"process": this_process(), "source_files": {"work.py": "0" * 64}}
    for name in ("going", "done", "other"):
        attempt = begun(runs, name)
        write_json(attempt.path / "started.json", {"started_at": 1.0, "evidence": evidence})
        if name == "done":
            end(runs, attempt)
    store = Store(server.database()[1], shared=False)
    assert ingest(runs, store) == []
    jobs = {id: runs.folder(id).job() for id in ("fit-going", "fit-done")}
    told = read_records(store, jobs)
    assert told == read_records(in_a_file(runs.path, tmp_path / "file.db"), jobs)
    assert set(told.attempts) == set(jobs) and told.attempts["fit-going"][0].alive
    assert "work.py" in told.stale["fit-done"]


def test_a_job_of_many_attempts_fits_into_the_index(server: Server, tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    begun(runs, "often")
    for _ in range(300):
        runs.folder("fit-often").begin_attempt()
    for path in (runs.path / "fit-often", *(runs.path / "fit-often").rglob("*")):
        os.utime(path, ns=(1, hash(path) % 10**18))
    store = Store(server.database()[1], shared=False)
    assert ingest(runs, store) == []
    with store.read() as connection:
        assert connection.execute(db.jobs.select()).one().below


@pytest.mark.parametrize("odd", [{"message": "a\0b"}, {"fact": "a\0b"}, {"fact": float("nan")}])
def test_what_no_server_can_hold_is_named_and_left_out(
    server: Server, tmp_path: Path, odd: dict[str, Any]
) -> None:
    runs = Runs(tmp_path / "runs")
    end(runs, begun(runs, "good"))
    end(runs, begun(runs, "odd"), **odd)
    end(runs, begun(runs, "well"))
    store = Store(server.database()[1], shared=False)
    (problem,) = ingest(runs, store)
    assert problem.where == str(runs.path / "fit-odd")
    assert "the database cannot hold it" in problem.what
    kept = rows(store)
    assert len(kept["jobs"]) == len(kept["outputs"]) == 2
    assert not [row for name in SHOWN for row in kept[name] if "fit-odd" in str(row)]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan of five jobs whose work is no science."""
    tasks = "".join(TASK.format(name=name, seed=seed) for seed, name in enumerate(("s", "t")))
    (tmp_path / "small.toml").write_text(HEAD + tasks + TAIL.format(tasks='"s", "t"'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAKE), str(ROOT)]))
    monkeypatch.setenv("LWSPEC_TEST_CONTROL", str(tmp_path / "control.json"))
    monkeypatch.setattr("lwspec.engine.executors.child.IMPORTED_ONCE", "lwspec.kernels.run")
    return tmp_path


def test_a_job_whose_message_has_a_nul_is_shown_as_failed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(attempt: Any) -> None:
        raise ValueError("a\0b")

    monkeypatch.setattr(fake_work, "_fit", fail)
    project = counting.Project()
    spec = project.folder / "small.toml"
    spec.write_text(spec.read_text().replace("code = 1000", "code = 0"))
    ended = project.run("submit", "small.toml", "--yes", "--db", server.database()[0])
    assert ended.status == 1 and "cannot hold" not in ended.printed
    assert "failed   fit counting" in ended.printed and r"ValueError: a\0b" in ended.printed
    project.remove()


def test_8_processes_submit_record_look_and_cancel_at_once(server: Server, plan: Path) -> None:
    typed, url = server.database()

    def command(number: int) -> None:
        sys.exit(main([*COMMANDS[number % len(COMMANDS)], "--db", typed]))

    said = at_once(command, plan / "logs", processes=8)
    assert nobody_saw_a_lock(said), said
    assert all(each.endswith(("exit 0", "exit 1", "exit 2")) for each in said), said
    assert main(["submit", "small.toml", "--yes", "--db", typed]) == 0
    assert main(["status", "small.toml", "--db", typed]) == 0
    there = rows(Store(url, shared=False))
    assert there["outputs"] and there == rows(in_a_file(plan / "runs", plan / "rebuilt.db"))


def of_schema_1(url: URL, path: Path) -> None:
    """Make a database of schema 1, in a file as a real run left it and the same on a server."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA_1.read_text(encoding="utf-8"))
    tables = MetaData()
    with create_engine(f"sqlite:///{path}").connect() as source:
        tables.reflect(source)
        with create_engine(url).begin() as target:
            tables.create_all(target)
            for table in tables.sorted_tables:
                listed = [dict(row) for row in source.execute(table.select()).mappings()]
                target.execute(table.insert(), listed)
            target.execute(text("CREATE VIEW runs AS SELECT job, command FROM attempts"))


def test_an_old_database_is_migrated_as_a_file_is(server: Server, tmp_path: Path) -> None:
    (_, url), path = server.database(), tmp_path / "old.db"
    of_schema_1(url, path)
    store = Store(url, shared=False)
    assert store.migrated and store.backup is None
    assert rows(store) == rows(Store(path, shared=False))
    with store.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), db.metadata) == []
    assert not Store(url, shared=False).migrated


def test_the_command_that_migrates_says_that_no_copy_is_kept(
    server: Server, plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed, url = server.database()
    of_schema_1(url, plan / "old.db")
    (plan / "runs").mkdir()
    assert main(["status", "small.toml", "--db", typed]) == 0
    assert "made_" in (said := capsys.readouterr().err)
    assert "was migrated; no copy of it was kept" in said
    assert main(["status", "small.toml", "--db", typed]) == 0
    assert "migrated" not in capsys.readouterr().err


INTERRUPTED = """\
import os, signal, sys
from sqlalchemy import Engine, event
from lwspec.engine.store.database import address
from lwspec.engine.store.store import Store

@event.listens_for(Engine, "after_cursor_execute")
def die(connection, cursor, statement, *rest):
    if statement.lstrip().startswith("INSERT INTO about"):
        os.kill(os.getpid(), signal.SIGKILL)

Store(address(sys.argv[1]), shared=False)
"""


def test_a_migration_that_is_killed_leaves_the_old_database(server: Server, tmp_path: Path) -> None:
    typed, url = server.database()
    of_schema_1(url, tmp_path / "old.db")
    died = subprocess.run([sys.executable, "-c", INTERRUPTED, typed], env=ENVIRONMENT)
    assert died.returncode == -signal.SIGKILL
    found = MetaData()
    with create_engine(url).connect() as connection:
        found.reflect(connection)
        assert connection.execute(text("SELECT command FROM runs")).first()  # its view, too
    assert "below" not in found.tables["jobs"].columns
    assert Store(url, shared=False).migrated


def test_processes_that_make_or_migrate_it_at_once_do_it_once(
    server: Server, tmp_path: Path
) -> None:
    (_, new), (_, old) = server.database(), server.database()
    of_schema_1(old, tmp_path / "old.db")

    def opened(number: int) -> None:
        assert not Store(new, shared=False).migrated
        print("migrated" if Store(old, shared=False).migrated else "found")

    said = at_once(opened, tmp_path / "logs", processes=8)
    assert [each for each in said if not each.endswith("exit 0")] == []
    assert sum("migrated" in each for each in said) == 1


def test_who_reads_sees_one_state_while_another_writes_and_writers_wait(server: Server) -> None:
    store = Store(server.database()[1], shared=False)
    order: list[str] = []

    def second() -> None:
        with store.write():
            order.append("second")

    with store.read() as reader, store.write() as writer:
        waiting = threading.Thread(target=second)
        before = reader.execute(db.about.select()).all()
        writer.execute(db.about.insert(), [{"key": "x", "value": "y"}])
        waiting.start()
        waiting.join(0.5)
        order.append("first")
        writer.commit()
        assert reader.execute(db.about.select()).all() == before
    waiting.join(60)
    assert order == ["first", "second"]


def test_what_others_made_is_left_alone(server: Server) -> None:
    _, url = server.database()
    with create_engine(url).begin() as connection:
        connection.execute(text("CREATE TABLE jobs (title text)"))
    with pytest.raises(StoreError, match='"jobs" already exists'):
        Store(url, shared=False)
    with create_engine(url).begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM pg_views WHERE viewname = 'runs'"))
        found = MetaData()
        found.reflect(connection)
    assert set(found.tables) == {"jobs"}
