"""What is looked at again, what is read at once, and how the database keeps its journal."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sqlite3
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lwspec.engine.job import Job
from lwspec.engine.plan import records
from lwspec.engine.plan.fingerprint import Fingerprints
from lwspec.engine.plan.records import Records, read_records, recorded
from lwspec.engine.runs.attempt import AttemptFolder
from lwspec.engine.runs.file_system import may_be_shared
from lwspec.engine.runs.jsonfile import write_json
from lwspec.engine.runs.life import Held, Life
from lwspec.engine.runs.process import this_process
from lwspec.engine.runs.runfolder import JobFolder, Runs
from lwspec.engine.runs.states import LastAttempt, State, job_state, states
from lwspec.engine.store.database import remedy
from lwspec.engine.store.ingest import ingest
from lwspec.engine.store.store import Store

LONG_AGO = time.time() - 3600
OTHER = {"spec": "other", "spec_path": "other.toml", "digest": "0", "jobs": {}, "cells": []}
ENDED = {"outcome": "finished", "ended_at": 1.0, "wall_s": 1.0, "device_s": 1.0}


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results.db", shared=False)


def job(name: str, outputs: tuple[str, ...] = ("result",)) -> Job:
    return Job(f"fit-{name}", "fit", "bridge", {}, {}, outputs, name, {})


def begun(runs: Runs, its: Job) -> AttemptFolder:
    """A job with an attempt that goes on."""
    granted = {**its.to_json(), "allowance_s": 60.0}
    write_json(runs.folder(its.id).path / "job.json", granted)
    attempt = runs.folder(its.id).begin_attempt()
    attempt.append_event("progress", done=1, total=2, what="x", device_s=0.5)
    return attempt


def finish(folder: JobFolder, attempt: AttemptFolder, output: str = "result") -> None:
    made = {"files": {}, "metrics": {}, "facts": {}, "finished_at": 1.0}
    folder.take(attempt, output, made)
    attempt.end(ENDED)


def age(folder: JobFolder) -> None:
    """Let everything in a job's folder be of long ago."""
    for path in (folder.path, *folder.path.rglob("*")):
        if path.is_dir():
            os.utime(path, (LONG_AGO, LONG_AGO))


def say_who(attempt: AttemptFolder, **other: str) -> None:
    """Let this process be the one that runs an attempt."""
    said = {"started_at": 1.0, "spec": "s", "charge": 0, "modelled_s": 1.0}
    write_json(
        attempt.path / "started.json",
        {**said, "evidence": {"process": {**this_process(), **other}}},
    )


def state(told: Records, its: Job) -> State:
    owed = {its.id: bool(told.owed({its.id: its}))}
    return states({its.id: its}, owed, told.last, {}, ())[its.id]


def looked_at(runs: Runs, store: Store, monkeypatch: pytest.MonkeyPatch, *asked: str) -> set[str]:
    """The jobs whose records an ingestion reads."""
    read: list[str] = []
    record = JobFolder.record

    def noted(folder: JobFolder) -> dict[str, Any]:
        read.append(folder.path.name)
        return record(folder)

    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "record", noted)
        assert ingest(runs, store, asked) == []
    return set(read)


def test_what_has_not_changed_is_not_read_again(
    runs: Runs, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, going = job("done"), job("going")
    finish(runs.folder(done.id), begun(runs, done))
    attempt = begun(runs, going)
    for each in (done, going):
        age(runs.folder(each.id))
    assert looked_at(runs, store, monkeypatch) == {done.id, going.id}
    assert looked_at(runs, store, monkeypatch, done.id, going.id) == set()
    attempt.append_event("progress", done=2, total=2, what="x", device_s=1.5)
    assert looked_at(runs, store, monkeypatch) == {going.id}
    assert read_records(store, {going.id: going}).spent_s == {None: 2.5}
    finish(runs.folder(going.id), attempt)
    assert looked_at(runs, store, monkeypatch) == {going.id}
    assert looked_at(runs, store, monkeypatch, done.id, going.id) == set()


def test_an_attempt_too_young_to_tell_is_read_again(
    runs: Runs, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(runs, job("going"))
    assert looked_at(runs, store, monkeypatch) == {"fit-going"}
    assert looked_at(runs, store, monkeypatch) == {"fit-going"}


def test_a_finished_job_is_looked_at_again_where_it_is_asked_for_or_a_plan_was_submitted(
    runs: Runs, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        finish(runs.folder(job(name).id), begun(runs, job(name)))
    ingest(runs, store)
    for name in ("one", "two"):  # both now owe another output
        longer = {**job(name, ("result", "more")).to_json(), "allowance_s": 60.0}
        write_json(runs.folder(job(name).id).path / "job.json", longer)
    assert looked_at(runs, store, monkeypatch, "fit-one") == {"fit-one"}
    write_json(runs.path / "plans" / "other.submitted.json", OTHER)
    assert "fit-two" in looked_at(runs, store, monkeypatch)


def test_a_job_whose_folder_is_gone_is_forgotten(runs: Runs, store: Store) -> None:
    for name in ("one", "two", "three"):
        finish(runs.folder(job(name).id), begun(runs, job(name)))
    ingest(runs, store)
    (runs.path / "fit-one").rename(runs.path / "elsewhere")
    (runs.path / "fit-two" / "job.json").unlink()
    ingest(runs, store, ["fit-two"])
    jobs = {job(name).id: job(name) for name in ("one", "two", "three")}
    assert set(read_records(store, jobs).attempts) == {"fit-three"}


def test_an_archive_is_read_as_it_is(
    runs: Runs, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    its = job("a")
    attempt = begun(runs, its)
    finish(runs.folder(its.id), attempt)
    (runs.folder(its.id).path / "taken" / "result.json").unlink()  # it died before it offered it
    there = sorted(runs.path.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: runs.path not in (path, *path.parents))
        assert ingest(runs, store) == []
        memory = Fingerprints(runs.path / "cache" / "fingerprints.json")
        memory.of(attempt.path / "exit.json")
        memory.save()
    assert sorted(runs.path.rglob("*")) == there
    with store.read() as connection:
        assert connection.exec_driver_sql("select count(*) from attempts").scalar() == 1
    assert ingest(runs, store) == []
    assert (runs.path / "ingest.lock").exists()


@pytest.mark.parametrize(
    ("code", "free", "said"),
    [
        (sqlite3.SQLITE_FULL, 1 << 40, "make room"),
        (sqlite3.SQLITE_CANTOPEN, 0, "make room"),
        (sqlite3.SQLITE_CANTOPEN, 1 << 40, "see that you may write"),
        (sqlite3.SQLITE_READONLY | 1 << 8, 1 << 40, "see that you may write"),
        (sqlite3.SQLITE_BUSY, 1 << 40, "another program holds it"),
        (sqlite3.SQLITE_NOTADB, 1 << 40, "move it away"),
        (sqlite3.SQLITE_ERROR, 1 << 40, "move it away"),  # a column that is there already
    ],
)
def test_what_to_do_with_a_database_fits_what_is_wrong(
    code: int, free: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = sqlite3.OperationalError("no")
    error.sqlite_errorcode = code
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    told = remedy(tmp_path / "results.db", error)
    choices = "make room", "see that you may write", "another program holds it", "move it away"
    assert [what for what in choices if what in told] == [said]


def test_events_are_read_a_block_at_a_time_and_none_is_lost(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = begun(runs, job("going"))
    for step in range(100):
        attempt.append_event("metric", step=step, values={"loss": step / 7})
    whole, end = attempt.events()
    monkeypatch.setattr("lwspec.engine.runs.attempt._BLOCK", 100)
    blocks = list(attempt.event_blocks())
    assert len(blocks) > 50
    assert [event for events, _ in blocks for event in events] == whole
    assert blocks[-1][1] == end == (attempt.path / "events.jsonl").stat().st_size


def test_what_an_attempt_last_told_is_found_from_the_end(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = begun(runs, job("going"))
    monkeypatch.setattr("lwspec.engine.runs.attempt._TAIL", 50)
    assert attempt.device_s() == 0.5
    for step in range(100):
        attempt.append_event("metric", step=step, values={"loss": step / 7})
    assert attempt.device_s() == 0.5
    attempt.append_event("progress", done=1, total=2, what="x", device_s=0.75)
    with (attempt.path / "events.jsonl").open("ab") as file:
        file.write(b'{"event": "progress", "device_s": 9')  # cut short
    assert attempt.device_s() == 0.75


def journal(path: Path) -> str:
    """SQLite's journal mode, as the file remembers it."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    return str(mode)


def test_a_database_that_other_machines_may_see_has_no_wal(tmp_path: Path) -> None:
    here, there = tmp_path / "here.db", tmp_path / "there.db"
    first = Store(here, shared=False)
    assert journal(here) == "wal"
    second = Store(here, shared=True)
    assert journal(here) == "wal"  # since the first has it open
    for store in (first, second):
        store._engine.dispose()  # as where their processes end
    with contextlib.closing(sqlite3.connect(there)) as connection:
        connection.execute("PRAGMA journal_mode = wal")  # as before it was moved
    for path in (there, here):
        Store(path, shared=True)
        assert journal(path) == "delete"


@pytest.mark.parametrize(
    ("kind", "shared"),
    [("ext4", False), ("tmpfs", False), ("nfs4", True), ("lustre", True), ("fuse.sshfs", True)],
)
def test_the_kind_of_file_system_says_who_may_see_it(
    tmp_path: Path, kind: str, shared: bool
) -> None:
    mounts = f"none / ext4 rw 0 0\nhome {tmp_path} {kind} rw 0 0\n"
    assert may_be_shared(tmp_path / "results.db", mounts) == shared
    assert may_be_shared(tmp_path / "results.db", "")  # nothing is known of it


def test_a_process_that_ends_while_its_records_are_read_is_not_taken_for_a_killed_one(
    runs: Runs, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    its = job("one")
    attempt = begun(runs, its)
    say_who(attempt)
    assert state(recorded(runs, store, {its.id: its})[0], its) == State.RUNNING

    def ends(process: object) -> bool:
        if not (attempt.path / "exit.json").exists():
            finish(runs.folder(its.id), attempt)
        return False

    monkeypatch.setattr(records, "lives", ends)
    assert state(recorded(runs, store, {its.id: its})[0], its) == State.DONE


def test_what_was_killed_is_looked_at_twice_and_interrupted(
    runs: Runs, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    its = job("one")
    say_who(begun(runs, its))
    monkeypatch.setattr(records, "lives", lambda process: False)
    assert state(recorded(runs, store, {its.id: its})[0], its) == State.INTERRUPTED


def test_an_attempt_that_has_not_said_who_runs_it_was_not_interrupted(
    runs: Runs, store: Store
) -> None:
    its = job("one")
    attempt = begun(runs, its)
    assert state(recorded(runs, store, {its.id: its})[0], its) == State.WAITING
    say_who(attempt)
    assert state(recorded(runs, store, {its.id: its})[0], its) == State.RUNNING


def test_what_died_in_an_allocation_before_it_said_who_ran_it_counts_as_killed() -> None:
    silent = LastAttempt(None, alive=False, named=False)
    held = Held(Life.ENDED, "failed", fruitless=False)
    assert job_state(True, silent, held, False, False) == State.INTERRUPTED


def test_processes_of_other_hosts_are_looked_at_once(
    runs: Runs, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = {its.id: its for its in (job(f"job {number}") for number in range(5))}
    left = list(jobs.values())

    def begins(process: object) -> bool:
        if left:
            say_who(begun(runs, left.pop()), host="elsewhere")
        return False

    say_who(begun(runs, left.pop()), host="elsewhere")
    monkeypatch.setattr(records, "lives", begins)
    recorded(runs, store, jobs)
    assert len(left) == 3


def test_an_attempt_that_begins_and_ends_while_it_is_read_keeps_its_evidence(
    runs: Runs, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    its = job("one")
    attempt = begun(runs, its)
    calls = itertools.count()
    started, ended = AttemptFolder.started, AttemptFolder.ended

    def then(read: dict[str, Any] | None) -> dict[str, Any] | None:
        """Let the attempt run through after its first record was read."""
        if next(calls) == 0:
            say_who(attempt)
            finish(runs.folder(its.id), attempt)
        return read

    monkeypatch.setattr(AttemptFolder, "started", lambda folder: then(started(folder)))
    monkeypatch.setattr(AttemptFolder, "ended", lambda folder: then(ended(folder)))
    for _ in range(2):
        ingest(runs, store, [its.id])
    ((tried,),) = read_records(store, {its.id: its}).attempts.values()
    assert tried.outcome == "finished" and tried.named
