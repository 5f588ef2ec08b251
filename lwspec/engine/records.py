"""What planning needs to know of the past, read from the store in a few queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from lwspec.engine import store as db
from lwspec.engine.evidence import relevant_sources, source_files
from lwspec.engine.price import Measurement
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
    device_s: float
    progress: Mapping[str, Any] | None


@dataclass(frozen=True)
class Records:
    """The past of every job in the store."""

    taken: Mapping[str, frozenset[str]]
    attempts: Mapping[str, tuple[Attempt, ...]]
    history: tuple[Measurement, ...]
    stale: Mapping[str, tuple[str, ...]]
    """Done jobs whose code has changed since, and the files that changed."""

    @property
    def last(self) -> dict[str, LastAttempt]:
        """The newest attempt of each job."""
        return {
            job: LastAttempt(tried[-1].outcome, any(a.alive for a in tried))
            for job, tried in self.attempts.items()
        }

    def spent_hours(self, jobs: set[str]) -> float:
        """Device hours of every attempt at these jobs, failed ones included."""
        return sum(a.device_s for job in jobs for a in self.attempts.get(job, ())) / 3600


def read_records(store: Store) -> Records:
    """Read the store once."""
    taken: dict[str, set[str]] = {}
    attempts: dict[str, list[Attempt]] = {}
    history: list[Measurement] = []
    stale: dict[str, tuple[str, ...]] = {}
    with store.read() as connection:
        for row in connection.execute(select(db.outputs.c.job, db.outputs.c.output)):
            taken.setdefault(row.job, set()).add(row.output)
        kinds = {
            row.id: row
            for row in connection.execute(select(db.jobs.c.id, db.jobs.c.kind, db.jobs.c.step))
        }
        table = db.attempts
        for row in connection.execute(select(table).order_by(table.c.job, table.c.number)):
            before = attempts.setdefault(row.job, [])
            alive = row.ended_at is None and lives((row.evidence or {}).get("process"))
            device_s = row.device_s if row.device_s is not None else _charged(row)
            before.append(
                Attempt(
                    row.job, row.number, row.outcome, row.message, alive, device_s, row.progress
                )
            )
            job = kinds.get(row.job)
            if job is None or row.outcome != "finished":
                continue
            first = len(before) == 1 or before[-2].outcome == "finished"
            if first and row.modelled_s and row.device_s:
                key = f"{job.kind} {job.step}"
                history.append(Measurement(key, row.modelled_s, row.device_s))
            changed = _changed_files(job.step, row.evidence or {})
            if changed:
                stale[row.job] = changed
    return Records(
        {job: frozenset(names) for job, names in taken.items()},
        {job: tuple(tried) for job, tried in attempts.items()},
        tuple(history),
        stale,
    )


def _charged(row: Any) -> float:
    """Seconds of an attempt that died without an exit record: to its last sign of life."""
    seen = (row.progress or {}).get("time")
    return max(0.0, seen - row.started_at) if seen and row.started_at else 0.0


def _changed_files(step: str, evidence: Mapping[str, Any]) -> tuple[str, ...]:
    then = evidence.get("source_files")
    if not then:
        return ()
    now, before = relevant_sources(step, source_files()), relevant_sources(step, then)
    return tuple(sorted(name for name in {*now, *before} if now.get(name) != before.get(name)))
