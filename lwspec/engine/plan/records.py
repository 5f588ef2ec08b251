"""What planning needs to know of the past, read from the store in a few queries."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, func, select

from lwspec.engine.job import Job, price_key
from lwspec.engine.plan import cost
from lwspec.engine.plan.price import Measurement, unit_of
from lwspec.engine.runs.evidence import relevant_sources, source_files
from lwspec.engine.runs.process import is_here, lives
from lwspec.engine.runs.runfolder import Runs
from lwspec.engine.runs.states import LastAttempt
from lwspec.engine.store import tables as db
from lwspec.engine.store.ingest import Problem, ingest
from lwspec.engine.store.sql import among, member
from lwspec.engine.store.store import Store


@dataclass(frozen=True)
class Attempt:
    """One recorded attempt, as far as planning and status care."""

    job: str
    number: int
    outcome: str | None
    message: str | None
    alive: bool
    named: bool
    """Whether it has said who runs it."""
    here: bool
    """Whether that is a process of this host, which alone can tell whether it lives."""
    progress: Mapping[str, Any] | None


@dataclass(frozen=True)
class Records:
    """The past of the jobs that a plan asks for, and what all others tell of prices and budgets."""

    taken: Mapping[str, Mapping[str, int]]
    """Job to its taken outputs and the attempt that made each."""
    attempts: Mapping[str, tuple[Attempt, ...]]
    history: tuple[Measurement, ...]
    """What jobs have taken that were like those that owe something."""
    stale: Mapping[str, tuple[str, ...]]
    """Jobs with an output from code that has changed since, and the files that changed."""
    outgrown_s: Mapping[str, float]
    """Jobs with an attempt that spent its allowance, and the most that one of them had spent."""
    spent_s: Mapping[str, float]
    """Spec to the device seconds of every attempt it started, failed and killed ones included."""

    @property
    def last(self) -> dict[str, LastAttempt]:
        """The newest attempt of each job."""
        return {
            job: LastAttempt(tried[-1].outcome, any(a.alive for a in tried), tried[-1].named)
            for job, tried in self.attempts.items()
        }

    def broken_off(self, jobs: Mapping[str, Job]) -> set[tuple[str, int]]:
        """The newest attempts of jobs that owe outputs, whose process has ended on this host."""
        newest = [self.attempts[job][-1] for job in self.owed(jobs) if job in self.attempts]
        ended = [a for a in newest if a.outcome is None and not a.alive]
        return {(a.job, a.number) for a in ended if a.here or not a.named}

    def owed(self, jobs: Mapping[str, Job]) -> dict[str, tuple[str, ...]]:
        """Outputs that are missing, by job; only jobs that owe any."""
        return _owed(jobs, self.taken)


def recorded(
    runs: Runs, store: Store, jobs: Mapping[str, Job], rescan: bool = False
) -> tuple[Records, list[Problem]]:
    """Record what is new below `runs` and read it back, with what could not be recorded.

    Whose process has ended since its folder was looked at may have finished meanwhile: it is
    looked at again, for the last time.
    """
    problems: dict[Problem, None] = {}
    seen: set[tuple[str, int]] = set()
    while True:
        problems |= dict.fromkeys(ingest(runs, store, jobs, rescan))
        records = read_records(store, jobs)
        broken_off = records.broken_off(jobs)
        if broken_off <= seen:
            return records, list(problems)
        seen, rescan = broken_off, False


def read_records(store: Store, jobs: Mapping[str, Job]) -> Records:
    """Read what was recorded of these jobs, and of others what counts for them."""
    taken: dict[str, dict[str, int]] = {}
    attempts: dict[str, list[Attempt]] = {}
    stale: dict[str, tuple[str, ...]] = {}
    outgrown_s: dict[str, float] = {}
    with store.read() as connection:
        columns = db.outputs.c
        query = select(columns.job, columns.output, columns.attempt)
        for job, output, attempt in connection.execute(query.where(among(columns.job, jobs))):
            taken.setdefault(job, {})[output] = attempt
        made = {(job, number) for job, outputs in taken.items() for number in outputs.values()}
        for row in connection.execute(_tried(jobs)):
            process = json.loads(row.process) if row.process else None
            alive = row.ended_at is None and lives(process)
            attempts.setdefault(row.job, []).append(
                Attempt(
                    row.job,
                    row.number,
                    row.outcome,
                    row.message,
                    alive,
                    process is not None,
                    is_here(process),
                    row.progress,
                )
            )
            if row.outcome == "allowance":
                spent = row.device_s or row.wall_s  # what costs nothing is allowed seconds
                outgrown_s[row.job] = max(outgrown_s.get(row.job, 0.0), spent)
            if (row.job, row.number) in made:
                changed = _changed_files(jobs[row.job].step, row.sources)
                if changed:
                    stale[row.job] = tuple(sorted({*stale.get(row.job, ()), *changed}))
        columns = db.attempts.c
        total = func.sum(columns.device_s).label("total")
        by_spec = connection.execute(select(columns.spec, total).group_by(columns.spec))
        spent_s = {row.spec: row.total for row in by_spec}
        history = _history(connection, (jobs[job] for job in _owed(jobs, taken)))
    tried = {job: tuple(of_job) for job, of_job in attempts.items()}
    return Records(taken, tried, history, stale, outgrown_s, spent_s)


def _owed(
    jobs: Mapping[str, Job], taken: Mapping[str, Mapping[str, int]]
) -> dict[str, tuple[str, ...]]:
    return {
        job.id: missing
        for job in jobs.values()
        if (missing := tuple(o for o in job.outputs if o not in taken.get(job.id, ())))
    }


def _tried(jobs: Iterable[str]) -> Select[Any]:
    """The attempts at jobs; of their evidence only what is used, which the database cuts out."""
    columns = db.attempts.c
    return (
        select(
            columns.job,
            columns.number,
            columns.ended_at,
            columns.outcome,
            columns.message,
            columns.wall_s,
            columns.device_s,
            columns.progress,
            member(columns.evidence, "process").label("process"),
            member(columns.evidence, "source_files").label("sources"),
        )
        .where(among(columns.job, jobs))
        .order_by(columns.job, columns.number)
    )


def _history(connection: Connection, owing: Iterable[Job]) -> tuple[Measurement, ...]:
    """What attempts took that were like those that are still to be made."""
    keys = {
        price_key(job.kind, job.step, beside=beside) for job in owing for beside in (False, True)
    }
    columns = db.attempts.c
    query = select(columns.price_key, columns.gpu, columns.modelled_s, columns.device_s).where(
        columns.price_key.in_(keys), columns.cost_version == cost.VERSION
    )
    return tuple(
        Measurement(key, unit, modelled_s, device_s)
        for key, gpu, modelled_s, device_s in connection.execute(query)
        if (unit := unit_of(gpu))
    )


@cache
def _changed_files(step: str, sources: str | None) -> tuple[str, ...]:
    """The files, of those that can change a step's numbers, that differ from what they were."""
    if not sources:
        return ()
    now, before = (
        relevant_sources(step, source_files()),
        relevant_sources(step, json.loads(sources)),
    )
    return tuple(sorted(name for name in {*now, *before} if now.get(name) != before.get(name)))
