"""What a person opens results.db for: one row a score, a timing, an attempt, in columns with names.

They hold nothing, so a migration makes them anew as they are here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, MetaData, and_, case, or_, select
from sqlalchemy.sql.ddl import CreateView

from lwspec.engine.metrics import METRICS
from lwspec.engine.store import tables as db
from lwspec.engine.store.sql import member, utc

views = MetaData()

_FITS = db.jobs.alias("fits")
_MEASURED = {name: metric for name, metric in METRICS.items() if metric.made == "measured"}


def _evaluations(kind: str, metrics: Iterable[str]) -> Any:
    """A row for each finished measurement in a sweep point, and a column for each of these metrics.

    What has no seed was measured once and stands in the cell of every seed: alike, they are one.
    """
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
            _seed().label("seed"),
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
        .outerjoin(_FITS, _FITS.c.id == cells.fit)
        .where(db.jobs.c.kind == kind)
        .distinct()
    )


def _seed() -> ColumnElement[Any]:
    """A cell's seed, null where neither its fit nor its measurement took one."""
    cells, fits = db.cells.c, _FITS.c
    known = or_(cells.fit.is_(None), fits.id.is_not(None))  # a fit's folder may be gone
    unset = [member(settings, "seed").is_(None) for settings in (fits.settings, db.jobs.c.settings)]
    return case((and_(known, *unset), None), else_=cells.seed)


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
