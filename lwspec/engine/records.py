"""What planning needs to know of the past, read from the store in a few queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from lwspec.engine import cost
from lwspec.engine import store as db
from lwspec.engine.evidence import relevant_sources, source_files
from lwspec.engine.price import Measurement, price_key, unit_of
from lwspec.engine.process import lives
from lwspec.engine.states import LastAttempt
from lwspec.engine.store import Store


@dataclass(frozen=True)
class Attempt:
    """One recorded attempt, as far as planning and status care."""

    job: str
    number: int
    outcome: str | None
    message: str | None
    alive: bool
    progress: Mapping[str, Any] | None


@dataclass(frozen=True)
class Records:
    """The past of every job in the store."""

    taken: Mapping[str, Mapping[str, int]]
    """Job to its taken outputs and the attempt that made each."""
    attempts: Mapping[str, tuple[Attempt, ...]]
    history: tuple[Measurement, ...]
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
            job: LastAttempt(tried[-1].outcome, any(a.alive for a in tried))
            for job, tried in self.attempts.items()
        }


def read_records(store: Store) -> Records:
    """Read the store once."""
    taken: dict[str, dict[str, int]] = {}
    attempts: dict[str, list[Attempt]] = {}
    history: list[Measurement] = []
    stale: dict[str, tuple[str, ...]] = {}
    outgrown_s: dict[str, float] = {}
    spent_s: dict[str, float] = {}
    with store.read() as connection:
        columns = db.outputs.c
        for row in connection.execute(select(columns.job, columns.output, columns.attempt)):
            taken.setdefault(row.job, {})[row.output] = row.attempt
        columns = db.jobs.c
        jobs = {
            row.id: row
            for row in connection.execute(select(columns.id, columns.kind, columns.step))
        }
        table = db.attempts
        for row in connection.execute(select(table).order_by(table.c.job, table.c.number)):
            evidence: Mapping[str, Any] = row.evidence or {}
            before = attempts.setdefault(row.job, [])
            alive = row.ended_at is None and lives(evidence.get("process"))
            before.append(
                Attempt(row.job, row.number, row.outcome, row.message, alive, row.progress)
            )
            if row.outcome == "allowance":
                spent = row.device_s or row.wall_s  # what costs nothing is allowed seconds
                outgrown_s[row.job] = max(outgrown_s.get(row.job, 0.0), spent)
            spent_s[row.spec] = spent_s.get(row.spec, 0.0) + row.device_s
            job = jobs[row.job]
            first = len(before) == 1 or before[-2].outcome == "finished"
            unit = unit_of(evidence.get("gpu"))
            counted = row.modelled_s and evidence.get("cost_version") == cost.VERSION
            if counted and unit and first and row.outcome == "finished" and row.device_s:
                beside = evidence.get("side_by_side", 1) > 1
                key = price_key(job.kind, job.step, beside=beside)
                history.append(Measurement(key, unit, row.modelled_s, row.device_s))
            if row.number in taken.get(row.job, {}).values():
                changed = _changed_files(job.step, evidence)
                if changed:
                    stale[row.job] = tuple(sorted({*stale.get(row.job, ()), *changed}))
    return Records(
        taken,
        {job: tuple(tried) for job, tried in attempts.items()},
        tuple(history),
        stale,
        outgrown_s,
        spent_s,
    )


def _changed_files(step: str, evidence: Mapping[str, Any]) -> tuple[str, ...]:
    then = evidence.get("source_files")
    if not then:
        return ()
    now, before = relevant_sources(step, source_files()), relevant_sources(step, then)
    return tuple(sorted(name for name in {*now, *before} if now.get(name) != before.get(name)))
