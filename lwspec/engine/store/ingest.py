"""Run folders into results.db: the only way that anything gets there."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, select
from sqlalchemy.exc import DataError

from lwspec.engine.job import Job, price_key
from lwspec.engine.runs.attempt import AttemptFolder
from lwspec.engine.runs.changed import Changes, Seen, below, changed_ns, changes
from lwspec.engine.runs.jsonfile import may_write
from lwspec.engine.runs.lock import RECORDING, only_one
from lwspec.engine.runs.recorded import PlanRecord, read_fitting, to_mend
from lwspec.engine.runs.runfolder import JobFolder, Runs
from lwspec.engine.store import tables as db
from lwspec.engine.store.sql import insert_many, insert_new, upsert
from lwspec.engine.store.store import Store
from lwspec.errors import RunFolderError

_JOBS = 200
"""How many jobs are recorded in one transaction."""
_WAIT_S = 600.0
"""For another process that records, until this one gives up."""


@dataclass(frozen=True)
class Problem:
    """Something damaged that ingestion met."""

    where: str
    what: str
    remedy: str | None = None
    job: str | None = None
    """The job that it left as it was, of which there may be more on disk."""

    def __str__(self) -> str:
        said = f"{self.where}: {self.what}"
        return f"{said}\n  next: {self.remedy}" if self.remedy else said


def ingest(
    runs: Runs, store: Store, asked: Collection[str] = (), rescan: bool = False
) -> list[Problem]:
    """Record what is new below `runs`: for sure of the jobs `asked` for, with `rescan` of all.

    A rescan holds settings and files against what names them too, and says what differs. One
    process records at a time, a few jobs in a transaction, each job wholly or not at all. A job
    with an unreadable record is left as it was and named in what is returned. Where nothing can be
    written, as in an archive, folders are read as they are. Raises RunFolderError where there is no
    such folder and the database holds jobs.
    """
    problems: list[Problem] = []
    due = rescan or _rescan_due(store)
    new = _new(runs, store, asked, due)
    if new == _NOTHING:
        return problems
    if rescan:
        problems = _differing(runs, new.jobs.look_at)  # which takes long, and holds up nobody
    refused = {problem.job for problem in problems}
    with only_one(runs.path, RECORDING, _WAIT_S) if may_write(runs.path) else nullcontext():
        new = _new(runs, store, asked, due)
        for some in _few(new.jobs.gone):
            with store.write() as connection:
                _forget(connection, some)
        for some in _few(new.jobs.look_at):
            with store.write() as connection:
                for job in some:
                    folder = runs.folder(job)
                    if job not in refused:
                        with _going_around(connection, folder.path, problems, job):
                            _job(connection, folder, due, problems)
        for plan, stamp in new.plans.items():
            with store.write() as connection:
                with _going_around(connection, plan, problems):
                    _plan(connection, plan, stamp)
        if due:
            with store.write() as connection:
                connection.execute(delete(db.about).where(db.about.c.key == db.RESCAN))
    return problems


def _rescan_due(store: Store) -> bool:
    """Whether a migration added columns that no look at all jobs has filled since."""
    with store.read() as connection:
        due = select(db.about.c.value).where(db.about.c.key == db.RESCAN)
        return connection.scalar(due) is not None


@dataclass(frozen=True)
class _New:
    """What the store does not know yet."""

    jobs: Changes
    plans: Mapping[Path, str]
    """Plans that were submitted, and when their files last changed."""


_NOTHING = _New(Changes((), ()), {})


def _new(runs: Runs, store: Store, asked: Collection[str], rescan: bool) -> _New:
    """Look at plans first: one that is submitted meanwhile is then new the next time."""
    jobs, about = db.jobs.c, db.about.c
    with store.read() as connection:
        known = {row.key: row.value for row in connection.execute(select(about.key, about.value))}
        settled = select(jobs.id, jobs.folder_mtime_ns).where(jobs.settled)
        others = select(jobs.id, jobs.folder_mtime_ns, jobs.below).where(~jobs.settled)
        seen = Seen(
            {row.id: row.folder_mtime_ns for row in connection.execute(settled)},
            {row.id: (row.folder_mtime_ns, row.below) for row in connection.execute(others)},
        )
    files = {path: str(changed_ns(path)) for path in runs.path.glob("plans/*.submitted.json")}
    plans = {path: at for path, at in files.items() if rescan or known.get(_key(path)) != at}
    if (seen.settled or seen.open) and not runs.path.exists():
        raise RunFolderError(
            "there are no run folders here, and the database holds jobs",
            where=str(runs.path),
            remedy="name theirs with --runs, or another database with --db",
        )
    if rescan:
        seen = Seen({}, dict.fromkeys((*seen.settled, *seen.open), (0, None)))
    return _New(changes(runs, seen, None if plans else asked), plans)


def _key(plan: Path) -> str:
    return f"plan {plan.name.removesuffix('.submitted.json')}"


def _few(jobs: Sequence[str]) -> list[Sequence[str]]:
    return [jobs[start : start + _JOBS] for start in range(0, len(jobs), _JOBS)]


@contextmanager
def _going_around(
    connection: Connection, path: Path, problems: list[Problem], job: str | None = None
) -> Iterator[None]:
    """Record something wholly, or name it and leave it as it was where it cannot be recorded."""
    try:
        with connection.begin_nested():
            yield
    except RunFolderError as error:
        problems.append(Problem(error.where or str(path), error.what, error.remedy, job))
    except DataError as error:  # PostgreSQL's texts have no NUL, say
        what = f"the database cannot hold it: {error.orig}"
        problems.append(Problem(str(path), what, job=job))


def _differing(runs: Runs, jobs: Iterable[str]) -> list[Problem]:
    """What of these jobs is not what was recorded; a job of other settings is not recorded."""
    problems = []
    for job in jobs:
        folder = runs.folder(job)
        try:
            folder.check_identity()
            for path, what in folder.differing():
                problems.append(Problem(str(path), what, to_mend(folder.path)))
        except RunFolderError as error:
            where = error.where or str(folder.path)
            problems.append(Problem(where, error.what, error.remedy, job))
    return problems


def _job(connection: Connection, folder: JobFolder, rescan: bool, problems: list[Problem]) -> None:
    mtime_ns, looked = changed_ns(folder.path), below(folder.path)
    job = folder.job()
    if may_write(folder.path):
        folder.take_finished()
    if rescan:
        for table in (db.attempts, db.outputs, db.metrics, db.points):
            connection.execute(delete(table).where(table.c.job == job.id))
    settled = _attempts(connection, job, folder, problems)
    taken = folder.taken()
    for output, record in taken.items():
        _output(connection, job.id, output, record)
    settled = settled and all(output in taken for output in job.outputs)
    row = {
        "id": job.id,
        "kind": job.kind,
        "step": job.step,
        "label": job.label,
        "settings": job.settings,
        "inputs": job.inputs,
        "outputs": list(job.outputs),
        "folder_mtime_ns": mtime_ns,
        "below": None if settled else looked,
        "settled": settled,
    }
    upsert(connection, db.jobs, [row])


def _attempts(connection: Connection, job: Job, folder: JobFolder, problems: list[Problem]) -> bool:
    """Record the attempts at a job; True where each of them has ended."""
    query = select(db.attempts).where(db.attempts.c.job == job.id)
    known = {row["number"]: dict(row) for row in connection.execute(query).mappings()}
    ended, fresh = True, True
    for attempt in folder.attempts():
        row = known.get(attempt.number)
        if row is None or row["ended_at"] is None:
            row = _attempt(connection, job, attempt, row, fresh, problems)
        ended = ended and row["ended_at"] is not None
        fresh = row["outcome"] == "finished"
    return ended


def _attempt(
    connection: Connection,
    job: Job,
    attempt: AttemptFolder,
    known: Mapping[str, Any] | None,
    fresh: bool,
    problems: list[Problem],
) -> dict[str, Any]:
    """Record one attempt and the events that it added; `fresh` where none before it broke off."""
    ended = attempt.ended() or {}  # first: whose end is seen has written all else
    started = attempt.started()
    read, progress = (known["events_read"], known["progress"]) if known else (0, None)
    unreadable = 0
    for events, after in attempt.event_blocks(read):
        read = after
        _insert_points(connection, job.id, attempt.number, events)
        unreadable += sum(event["event"] == "unreadable" for event in events)
        progress = next((e for e in reversed(events) if e["event"] == "progress"), progress)
    if unreadable:
        where = str(attempt.path / "events.jsonl")
        problems.append(Problem(where, f"{unreadable} damaged lines were left out"))
    evidence = started.get("evidence", {})
    row = {
        "job": job.id,
        "number": attempt.number,
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
        "gpu": evidence.get("gpu"),
        "cost_version": evidence.get("cost_version"),
        "price_key": None,
        "progress": progress,
        "evidence": evidence,
        "events_read": read,
    }
    if fresh and row["outcome"] == "finished" and row["device_s"] and row["modelled_s"]:
        beside = evidence.get("side_by_side", 1) > 1
        row["price_key"] = price_key(job.kind, job.step, beside=beside)
    upsert(connection, db.attempts, [row])
    return row


def _insert_points(
    connection: Connection, job: str, attempt: int, events: Sequence[Mapping[str, Any]]
) -> None:
    """Record metrics of a job's way; a NaN is none, as SQLite has it."""
    points = [
        (job, name, event["step"], attempt, None if value != value else value)
        for event in events
        if event["event"] == "metric"
        for name, value in event["values"].items()
    ]
    insert_many(connection, db.points, points)


def _output(connection: Connection, job_id: str, output: str, record: Mapping[str, Any]) -> None:
    row = {
        "job": job_id,
        "output": output,
        "attempt": record["attempt"],
        "taken_at": record["finished_at"],
        "files": record["files"],
        "facts": record["facts"],
    }
    insert_new(connection, db.outputs, [row])
    values = [
        {"job": job_id, "output": output, "name": name, "value": value}
        for name, value in record["metrics"].items()
        if value is not None and math.isfinite(value)
    ]
    insert_new(connection, db.metrics, values)


def _plan(connection: Connection, path: Path, stamp: str) -> None:
    """The cells of a submitted plan, for people who query the database."""
    plan = read_fitting(path, PlanRecord, "lwspec submit writes it anew")
    name = plan["spec"]
    connection.execute(delete(db.cells).where(db.cells.c.plan == name))
    rows = [
        {**cell, "plan": name, "point": json.dumps(cell["point"], sort_keys=True)}
        for cell in plan["cells"]
    ]
    insert_new(connection, db.cells, rows)
    upsert(connection, db.about, [{"key": _key(path), "value": stamp}])


def _forget(connection: Connection, jobs: Collection[str]) -> None:
    """Drop the rows of jobs whose folder is gone."""
    connection.execute(delete(db.jobs).where(db.jobs.c.id.in_(jobs)))
    for table in (db.attempts, db.outputs, db.metrics, db.points):
        connection.execute(delete(table).where(table.c.job.in_(jobs)))
