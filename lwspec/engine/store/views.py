"""What a person opens results.db for: one row a score, a timing, an attempt, in columns with names.

They hold nothing, so a migration makes them anew as they are here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import MetaData, and_, select
from sqlalchemy.sql.ddl import CreateView

from lwspec.engine.metrics import METRICS
from lwspec.engine.store import tables as db
from lwspec.engine.store.sql import utc

views = MetaData()

_MEASURED = {name: metric for name, metric in METRICS.items() if metric.made == "measured"}


def _evaluations(kind: str, metrics: Iterable[str]) -> Any:
    """A row for each finished measurement of a cell, and a column for each of these metrics."""
    cells, outputs, values = db.cells.c, db.outputs.c, db.metrics.c
    numbers = [
        select(values.value)
        .where(values.job == outputs.job, values.output == outputs.output, values.name == name)
        .scalar_subquery()
        .label(name)
        for name in metrics
    ]
    measured = and_(outputs.job == cells.evaluate, outputs.output == "result")
    return (
        select(
            cells.plan.label("spec"),
            cells.experiment,
            cells.arm,
            cells.task,
            cells.seed,
            cells.point,
            *numbers,
            utc(outputs.taken_at).label("finished"),
            cells.evaluate.label("job"),
            outputs.attempt,
            cells.fit,
        )
        .select_from(db.cells)
        .join(db.outputs, measured)
        .join(db.jobs, db.jobs.c.id == outputs.job)
        .where(db.jobs.c.kind == kind)
    )


def _attempts() -> Any:
    """A row for each attempt at a job, with how it ended and what it cost."""
    jobs, attempts = db.jobs.c, db.attempts.c
    return (
        select(
            attempts.spec,
            jobs.kind,
            jobs.label,
            attempts.job,
            attempts.number.label("attempt"),
            attempts.outcome,
            attempts.message,
            utc(attempts.started_at).label("started"),
            utc(attempts.ended_at).label("ended"),
            attempts.wall_s,
            attempts.device_s,
            attempts.peak_bytes,
            attempts.hardware,
            attempts.host,
            attempts.git_sha,
            attempts.dirty,
            attempts.command,
        )
        .select_from(db.attempts)
        .join(db.jobs, jobs.id == attempts.job)
    )


CreateView(
    _evaluations("evaluate", [name for name, metric in _MEASURED.items() if not metric.timed]),
    "results",
    metadata=views,
)
CreateView(
    _evaluations("latency", [name for name, metric in _MEASURED.items() if metric.timed]),
    "timings",
    metadata=views,
)
CreateView(_attempts(), "runs", metadata=views)
