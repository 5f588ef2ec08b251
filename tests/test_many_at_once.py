"""Many processes at one plan: nothing is lost, nothing is done twice, and nobody sees a lock."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from slurm.fixtures import FAKE, HEAD, ROOT, TAIL, TASK

from lwspec.cli import main
from lwspec.engine.job import Job
from lwspec.engine.runs.jsonfile import write_json
from lwspec.engine.runs.runfolder import Runs
from lwspec.engine.store.ingest import ingest
from lwspec.engine.store.store import Store

PROCESSES = 64
COMMANDS = (
    ["submit", "small.toml", "--yes"],
    ["status", "small.toml"],
    ["status", "small.toml", "--json"],
    ["cancel", "small.toml"],
)
TABLES = {  # but for how folders looked, which is no record
    "jobs": "id, kind, step, label, settings, inputs, outputs, settled",
    "attempts": "*",
    "outputs": "*",
    "metrics": "*",
    "points": "*",
    "cells": "*",
}


def at_once(act: Callable[[int], None], logs: Path, processes: int = PROCESSES) -> list[str]:
    """Fork processes, let all of them act at the same moment, and return what each printed.

    Forked, they need not import anything: they are as close together as they can be.
    """
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(processes)
    logs.mkdir()
    paths = [logs / f"{number}.txt" for number in range(processes)]
    started = [
        fork.Process(target=_forked, args=(act, number, path, barrier))
        for number, path in enumerate(paths)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(900)
        assert process.exitcode is not None
    return [
        f"{path.read_text()}\nexit {p.exitcode}" for path, p in zip(paths, started, strict=True)
    ]


def _forked(act: Callable[[int], None], number: int, log: Path, barrier: Barrier) -> None:
    with log.open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", buffering=1) for n in (1, 2))
    barrier.wait()
    act(number)


def command(number: int) -> None:
    """One of the commands of the storm."""
    sys.exit(main(COMMANDS[number % len(COMMANDS)]))


def recorded(database: Path) -> dict[str, list[Any]]:
    """Every record, in an order of its own."""
    with sqlite3.connect(database) as connection:
        return {
            table: sorted(map(repr, connection.execute(f"SELECT {columns} FROM {table}")))
            for table, columns in TABLES.items()
        }


def rebuilt(runs: Path, database: Path) -> dict[str, list[Any]]:
    ingest(Runs(runs), Store(database, shared=False))
    return recorded(database)


def nobody_saw_a_lock(said: Sequence[str]) -> bool:
    return not any("Traceback" in text or "database" in text for text in said)


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan of nine jobs whose work is no science and takes no library."""
    names = [f"t{number}" for number in range(4)]
    tasks = "".join(TASK.format(name=name, seed=seed) for seed, name in enumerate(names))
    listed = ", ".join(f'"{name}"' for name in names)
    (tmp_path / "small.toml").write_text(HEAD + tasks + TAIL.format(tasks=listed))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAKE), str(ROOT)]))
    monkeypatch.setenv("LWSPEC_TEST_CONTROL", str(tmp_path / "control.json"))
    monkeypatch.setattr("lwspec.engine.executors.child.IMPORTED_ONCE", "lwspec.kernels.run")
    return tmp_path


def test_64_processes_submit_record_look_and_cancel_at_once(
    plan: Path,
) -> None:
    said = at_once(command, plan / "logs")
    assert nobody_saw_a_lock(said), [t for t in said if "Traceback" in t or "database" in t][0]
    assert all(text.endswith(("exit 0", "exit 1", "exit 2")) for text in said)
    assert any("jobs done" in text for text in said[::4]), said
    told = ("jobs done", "is running jobs in", "run or are queued already", "everything is done")
    assert all(any(words in text for words in told) for text in said[::4]), said[::4]

    assert main(["submit", "small.toml", "--yes"]) == 0
    assert main(["status", "small.toml"]) == 0
    live = recorded(plan / "results.db")
    assert live == rebuilt(plan / "runs", plan / "rebuilt.db")
    assert len(live["jobs"]) == 9 == len(live["outputs"])
    with sqlite3.connect(plan / "results.db") as connection:
        query = "SELECT job, started_at, ended_at, outcome FROM attempts ORDER BY job, number"
        tried = list(connection.execute(query))
    finished = [job for job, *_, outcome in tried if outcome == "finished"]
    assert len(finished) == len(set(finished)) == 9
    for (job, _, ended, _), (other, started, *_) in pairwise(tried):
        assert job != other or ended is None or ended <= started  # never two at once


def test_a_process_forked_from_one_that_ran_jobs_runs_jobs(plan: Path) -> None:
    assert main(["submit", "small.toml", "--yes", "--only", "data*"]) == 0
    (said,) = at_once(command, plan / "logs", processes=1)
    assert "5 of 5 jobs done" in said, said  # and four before


@pytest.mark.parametrize("shared", [False, True])
def test_64_processes_that_record_the_same_runs_at_once_make_one_database(
    tmp_path: Path, shared: bool
) -> None:
    runs, database = Runs(tmp_path / "runs"), tmp_path / "results.db"
    for number in range(12):
        job = Job(f"fit-{number}", "fit", "bridge", {}, {}, ("epoch-001",), str(number), {})
        folder = runs.folder(job.id)
        write_json(folder.path / "job.json", {**job.to_json(), "allowance_s": 60.0})
        attempt = folder.begin_attempt()
        for step in range(20):
            attempt.append_event("metric", step=step, values={"train_loss": step / 7})
        made = {"files": {}, "metrics": {"accuracy": 0.5}, "facts": {}, "finished_at": 1.0}
        folder.take(attempt, "epoch-001", made)
        attempt.end({"outcome": "finished", "ended_at": 1.0, "wall_s": 1.0, "device_s": 1.0})

    def record(number: int) -> None:
        store = Store(database, shared=shared)
        assert ingest(runs, store) == []
        assert len(recorded(database)["points"]) == 12 * 20

    said = at_once(record, tmp_path / "logs")
    assert [text for text in said if not text.endswith("exit 0")] == []
    assert recorded(database) == rebuilt(runs.path, tmp_path / "rebuilt.db")
