"""A spec's records as flat tables: results, runs, points and, where asked for, estimates.

Numbers are as they were recorded (an accuracy of 0.9, not 90 per cent). What nobody recorded is
null, never left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow

from lwspec.engine.metrics import METRICS
from lwspec.engine.plan.plan import Plan
from lwspec.report.evidence import Evidence
from lwspec.report.numbers import PREDICTIONS, Numbers
from lwspec.report.query import Group, Output, groups

TEXT, WHOLE, REAL, TRUTH = pyarrow.string(), pyarrow.int64(), pyarrow.float64(), pyarrow.bool_()

COUNTED = tuple(name for name, metric in METRICS.items() if metric.made == "counted")

Row = Mapping[str, Any]

CELL = {
    "spec": TEXT, "experiment": TEXT, "heading": TEXT, "arm": TEXT, "task": TEXT, "seed": WHOLE,
    "untrained": TRUTH, "state": TEXT, "items": WHOLE,
}  # fmt: skip
"""What a result is of: the seed is null of an arm that has none, and has one row for all seeds."""
BEHIND = {
    "settings": TEXT, "job": TEXT, "attempt": WHOLE, "fit": TEXT, "finished": TEXT,
    "git_sha": TEXT, "dirty": TRUTH, "hardware": TEXT, "host": TEXT, "command": TEXT,
    "predictions_sha256": TEXT,
}  # fmt: skip
"""What stands behind a result: all settings of its jobs as JSON, and the attempt that made it."""
RUN = {
    "spec": TEXT, "kind": TEXT, "label": TEXT, "job": TEXT, "attempt": WHOLE, "outcome": TEXT,
    "counts": TRUTH, "message": TEXT, "started": TEXT, "ended": TEXT, "wall_s": REAL,
    "device_s": REAL, "peak_bytes": WHOLE, "hardware": TEXT, "host": TEXT, "git_sha": TEXT,
    "dirty": TRUTH, "command": TEXT,
}  # fmt: skip
"""An attempt at a job; it counts where an output that it made was taken."""
POINT = {"kind": TEXT, "label": TEXT, "job": TEXT, "name": TEXT, "step": WHOLE, "attempt": WHOLE,
         "value": REAL}  # fmt: skip
"""A metric that a job reported at a step."""
ESTIMATE = {"spec": TEXT, "experiment": TEXT, "arm": TEXT, "task": TEXT, "point": TEXT,
            "metric": TEXT, "mean": REAL, "low": REAL, "high": REAL, "method": TEXT,
            "runs": WHOLE, "planned": WHOLE}  # fmt: skip
"""A mean over a cell's seeds, with the interval that the report's tables show."""


@dataclass(frozen=True)
class Records:
    """A plan with everything that was recorded of it."""

    numbers: Numbers
    evidence: Evidence
    points: Callable[[], Iterator[Sequence[tuple[str, str, int, int, float | None]]]]
    """Reads metrics by job, name, step and attempt, some at a time: there may be millions."""

    @property
    def plan(self) -> Plan:
        """What was planned."""
        return self.numbers.plan


@dataclass(frozen=True)
class Flat:
    """A table of which there may be more than fits in memory."""

    name: str
    schema: pyarrow.Schema
    parts: Iterable[pyarrow.Table]

    def whole(self) -> pyarrow.Table:
        """All of it at once."""
        return pyarrow.concat_tables([self.schema.empty_table(), *self.parts])


def results(records: Records) -> Flat:
    """A row for each measurement that the spec asks for, finished or not."""
    rows = [row for _, row in measured(records)]
    swept = list(dict.fromkeys(key for row in rows for key in row["point"]))
    known = [*(name for name in METRICS if name not in COUNTED), *COUNTED]
    named = {name for row in rows for name in row["metrics"]}
    metrics = [*(n for n in known if n in named), *sorted(named - set(known))]
    columns = {
        **CELL,
        **{key: _type([row["point"].get(key) for row in rows]) for key in swept},
        **dict.fromkeys(metrics, REAL),
        **BEHIND,
    }
    flat = [
        {**row, **{k: _fit(v, columns[k]) for k, v in row["point"].items()}, **row["metrics"]}
        for row in rows
    ]
    return _flat("results", columns, flat)


def measured(records: Records) -> Iterator[tuple[Group, dict[str, Any]]]:
    """Each measurement with the settings of its sweep point, its metrics, and what is behind it."""
    plan, results = records.plan, records.numbers.results
    for group in groups(plan, [each.name for each in plan.loaded.spec.experiment]):
        first = {cell.evaluate: cell for cell in reversed(group.cells)}
        for cell in (first[job] for job in dict.fromkeys(each.evaluate for each in group.cells)):
            output = results.evaluation(cell)
            jobs = [id for id in (cell.fit, cell.evaluate) if id is not None]
            settings = {
                plan.expansion.jobs[id].kind: plan.expansion.jobs[id].settings for id in jobs
            }
            yield (
                group,
                {
                    "spec": plan.loaded.spec.name,
                    "experiment": group.experiment,
                    "heading": group.heading,
                    "arm": group.arm,
                    "task": group.task,
                    "seed": cell.seed if cell.seeded else None,
                    "untrained": group.untrained,
                    "state": plan.states[cell.evaluate],
                    "point": dict(cell.point),
                    "settings": json.dumps(settings, sort_keys=True),
                    "job": cell.evaluate,
                    "fit": cell.fit,
                    "metrics": {},
                    **(
                        {}
                        if output is None
                        else _found(output, replace(group, cells=(cell,)), records)
                    ),
                },
            )


def _found(output: Output, alone: Group, records: Records) -> dict[str, Any]:
    """What a finished measurement adds to its row."""
    attempt = records.evidence.attempts[output.job, output.attempt]
    counted = {name: records.numbers.estimate(alone, name) for name in COUNTED}
    metrics = {**output.metrics, **{k: v.mean for k, v in counted.items() if v is not None}}
    kept = ("git_sha", "dirty", "hardware", "host", "command")
    return {
        "metrics": metrics,
        "items": output.facts.get("n"),
        "attempt": output.attempt,
        "finished": _utc(attempt["ended_at"]),
        "predictions_sha256": output.files.get(PREDICTIONS),
        **{key: attempt[key] for key in kept},
    }


def runs(records: Records) -> Flat:
    """A row for each attempt at the plan's jobs, failed ones too."""
    evidence = records.evidence
    rows = [
        {
            **row,
            "kind": evidence.labels[job][0],
            "label": evidence.labels[job][1],
            "attempt": number,
            "counts": number in evidence.makers.get(job, ()),
            "started": _utc(row["started_at"]),
            "ended": _utc(row["ended_at"]),
        }
        for (job, number), row in sorted(evidence.attempts.items())
    ]
    return _flat("runs", RUN, rows)


def points(records: Records) -> Flat:
    """A row for each metric that a job reported at a step, such as its loss."""
    labels = records.evidence.labels
    schema = pyarrow.schema(POINT)

    def parts() -> Iterator[pyarrow.Table]:
        for some in records.points():
            rows = [
                dict(zip(POINT, (*labels[job], job, *of_job), strict=True)) for job, *of_job in some
            ]
            yield pyarrow.Table.from_pylist(rows, schema)

    return Flat("points", schema, parts())


def estimates(records: Records) -> Flat:
    """A row for each arm, task, sweep point and metric: the mean over seeds, and its interval."""
    numbers, spec = records.numbers, records.plan.loaded.spec
    rows = []
    for group in groups(records.plan, [each.name for each in spec.experiment]):
        found = numbers.found(group)
        for metric in METRICS:
            made = numbers.recorded(group, metric)
            if made is None:
                continue
            rows.append(
                {
                    "spec": spec.name,
                    "experiment": group.experiment,
                    "arm": group.arm,
                    "task": group.task,
                    "point": group.point or None,
                    "metric": metric,
                    "mean": made.mean,
                    "low": made.low,
                    "high": made.high,
                    "method": made.method,
                    "runs": len(found.outputs),
                    "planned": len(found.outputs) + len(found.missing),
                }
            )
    return _flat("estimates", ESTIMATE, rows)


TABLES: Mapping[str, Callable[[Records], Flat]] = {
    "results": results,
    "runs": runs,
    "points": points,
    "estimates": estimates,
}


def _flat(name: str, columns: Mapping[str, pyarrow.DataType], rows: Sequence[Row]) -> Flat:
    schema = pyarrow.schema(columns)
    made = {key: pyarrow.array([r.get(key) for r in rows], t) for key, t in columns.items()}
    return Flat(name, schema, [pyarrow.table(made, schema=schema)])


def _type(values: Sequence[Any]) -> pyarrow.DataType:
    """The narrowest type that holds the values of a swept setting; text of what is mixed."""
    kinds = {type(value) for value in values if value is not None}
    for type_, held in ((TRUTH, {bool}), (WHOLE, {int}), (REAL, {int, float})):
        if kinds and kinds <= held:
            return type_
    return TEXT


def _fit(value: Any, type_: pyarrow.DataType) -> Any:
    """A swept setting as its column holds it."""
    return json.dumps(value) if type_ == TEXT and not isinstance(value, str) else value


def _utc(seconds: float | None) -> str | None:
    """A time as ISO 8601."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
