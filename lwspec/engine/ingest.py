"""Run folders into results.db: the only way that anything gets there."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table, delete, select
from sqlalchemy.dialects.sqlite import Insert, insert

from lwspec.engine import store as db
from lwspec.engine.recorded import PlanRecord, fitting
from lwspec.engine.runfolder import AttemptFolder, JobFolder, Runs, read_json
from lwspec.engine.store import Store
from lwspec.errors import RunFolderError

_BATCH = 5000


@dataclass(frozen=True)
class Problem:
    """Something unreadable that ingestion went around."""

    where: str
    what: str


def ingest(runs: Runs, store: Store, rescan: bool = False) -> list[Problem]:
    """Record what is new below `runs`; with `rescan`, look at finished jobs again too.

    A job with an unreadable record is left as it was and named in what is returned.
    """
    problems: list[Problem] = []
    with store.read() as connection:
        known = {
            row.id: row.folder_mtime_ns
            for row in connection.execute(select(db.jobs).where(db.jobs.c.settled))
        }
    folders = list(runs.folders())
    changed = [
        folder
        for folder in folders
        if rescan or known.get(folder.path.name) != folder.path.stat().st_mtime_ns
    ]
    with store.write() as connection:
        _forget_missing(connection, {folder.path.name for folder in folders})
        for folder in changed:
            try:
                with connection.begin_nested():
                    _job(connection, folder, rescan, problems)
            except RunFolderError as error:
                problems.append(Problem(error.where or str(folder.path), error.what))
        _plans(connection, runs, problems)
    return problems


def _job(connection: Connection, folder: JobFolder, rescan: bool, problems: list[Problem]) -> None:
    mtime_ns = folder.path.stat().st_mtime_ns
    job = folder.job()
    folder.take_finished()
    if rescan:
        for table in (db.attempts, db.outputs, db.metrics, db.points):
            connection.execute(delete(table).where(table.c.job == job.id))
    open_attempts = 0
    for attempt in folder.attempts():
        open_attempts += _attempt(connection, job.id, attempt, problems)
    taken = folder.taken()
    for output, record in taken.items():
        _output(connection, job.id, output, record)
    settled = not open_attempts and all(output in taken for output in job.outputs)
    row = {
        "id": job.id,
        "kind": job.kind,
        "step": job.step,
        "label": job.label,
        "settings": job.settings,
        "inputs": job.inputs,
        "outputs": list(job.outputs),
        "folder_mtime_ns": mtime_ns,
        "settled": settled,
    }
    _upsert(connection, db.jobs, [row])


def _attempt(
    connection: Connection, job_id: str, attempt: AttemptFolder, problems: list[Problem]
) -> bool:
    """Record one attempt and the events it added; True while it has no exit record."""
    number = attempt.number
    table = db.attempts
    known = connection.execute(
        select(table.c.ended_at, table.c.events_read, table.c.progress).where(
            table.c.job == job_id, table.c.number == number
        )
    ).first()
    if known is not None and known.ended_at is not None:
        return False
    started, ended = attempt.started(), attempt.ended() or {}
    events, read = attempt.events(known.events_read if known else 0)
    unreadable = [event for event in events if event["event"] == "unreadable"]
    if unreadable:
        where = str(attempt.path / "events.jsonl")
        problems.append(Problem(where, f"{len(unreadable)} damaged lines were left out"))
    progress = [event for event in events if event["event"] == "progress"]
    evidence = started.get("evidence", {})
    row = {
        "job": job_id,
        "number": number,
        "spec": started.get("spec"),
        "started_at": started.get("started_at"),
        "ended_at": ended.get("ended_at"),
        "outcome": ended.get("outcome"),
        "message": ended.get("message"),
        "host": evidence.get("host"),
        "hardware": evidence.get("hardware"),
        "git_sha": evidence.get("git_sha"),
        "dirty": evidence.get("dirty"),
        "command": evidence.get("command"),
        "wall_s": ended.get("wall_s"),
        "device_s": attempt.device_s(),
        "peak_bytes": ended.get("peak_bytes"),
        "modelled_s": started.get("modelled_s"),
        "progress": progress[-1] if progress else (known.progress if known else None),
        "evidence": evidence,
        "events_read": read,
    }
    _upsert(connection, table, [row])
    _insert_new(connection, db.points, _points(job_id, number, events))
    return not ended


def _points(job_id: str, number: int, events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"job": job_id, "name": name, "step": event["step"], "attempt": number, "value": value}
        for event in events
        if event["event"] == "metric"
        for name, value in event["values"].items()
    ]


def _output(connection: Connection, job_id: str, output: str, record: Mapping[str, Any]) -> None:
    row = {
        "job": job_id,
        "output": output,
        "attempt": record["attempt"],
        "taken_at": record["finished_at"],
        "files": record["files"],
        "facts": record["facts"],
    }
    _insert_new(connection, db.outputs, [row])
    values = [
        {"job": job_id, "output": output, "name": name, "value": value}
        for name, value in record["metrics"].items()
        if value is not None and math.isfinite(value)
    ]
    _insert_new(connection, db.metrics, values)


def _plans(connection: Connection, runs: Runs, problems: list[Problem]) -> None:
    """The cells of every submitted plan, for people who query the database."""
    for path in sorted((runs.path / "plans").glob("*.submitted.json")):
        try:
            plan = fitting(read_json(path), PlanRecord, path)
        except RunFolderError as error:
            problems.append(Problem(error.where or "", error.what))
            continue
        name = plan["spec"]
        connection.execute(delete(db.cells).where(db.cells.c.plan == name))
        rows = [
            {**cell, "plan": name, "point": json.dumps(cell["point"], sort_keys=True)}
            for cell in plan["cells"]
        ]
        _insert_new(connection, db.cells, rows)


def _forget_missing(connection: Connection, present: Collection[str]) -> None:
    """Drop the rows of jobs whose folder is gone."""
    gone = [row.id for row in connection.execute(select(db.jobs.c.id)) if row.id not in present]
    for job_id in gone:
        connection.execute(delete(db.jobs).where(db.jobs.c.id == job_id))
        for table in (db.attempts, db.outputs, db.metrics, db.points):
            connection.execute(delete(table).where(table.c.job == job_id))


def _upsert(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    connection.execute(_upsert_into(table), rows)


@cache
def _upsert_into(table: Table) -> Insert:
    """The statement that writes whole rows over those of the same key."""
    statement = insert(table)
    updates = {column.name: statement.excluded[column.name] for column in table.columns}
    keys = [column.name for column in table.primary_key]
    return statement.on_conflict_do_update(index_elements=keys, set_=updates)


def _insert_new(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    for start in range(0, len(rows), _BATCH):
        connection.execute(insert(table).on_conflict_do_nothing(), rows[start : start + _BATCH])
