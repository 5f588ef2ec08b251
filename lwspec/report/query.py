"""The report's only look at the store: what was measured in each cell of the spec's experiments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from lwspec.engine.plan.expand import Cell
from lwspec.engine.plan.plan import Plan
from lwspec.engine.store import tables as db
from lwspec.engine.store.store import Store


@dataclass(frozen=True)
class Output:
    """A taken output of a job: its numbers, files by hash, and which attempt made it."""

    job: str
    name: str
    attempt: int
    metrics: Mapping[str, float]
    files: Mapping[str, str]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Results:
    """Every taken output, by job and name."""

    outputs: Mapping[str, Mapping[str, Output]]
    device_s: Mapping[str, float] = field(default_factory=dict)
    """Job to the device seconds of all its attempts."""

    def evaluation(self, cell: Cell) -> Output | None:
        """What the cell's evaluation found, or None where it has not finished.

        One whose weights are no longer recorded does not count: nothing leads back from it.
        """
        output = self.outputs.get(cell.evaluate, {}).get("result")
        if output is None or cell.fit is None:
            return output
        made, measured = self.outputs.get(cell.fit, {}), output.facts.get("checkpoint")
        recorded = epoch_name(measured["epoch"]) in made if measured else bool(made)
        return output if recorded else None

    def epochs(self, cell: Cell) -> Sequence[Output]:
        """The finished epochs of the fit behind a cell, in order."""
        found = self.outputs.get(cell.fit or "", {})
        return [found[name] for name in sorted(found)]


def epoch_name(epoch: int) -> str:
    """What a fit's output of an epoch is called."""
    return f"epoch-{epoch:03d}"


def read_results(store: Store) -> Results:
    """Read every taken output, and what each job's attempts took."""
    metrics: dict[tuple[str, str], dict[str, float]] = {}
    outputs: dict[str, dict[str, Output]] = {}
    with store.read() as connection:
        for row in connection.execute(select(db.metrics)):
            metrics.setdefault((row.job, row.output), {})[row.name] = row.value
        for row in connection.execute(select(db.outputs)):
            values = metrics.get((row.job, row.output), {})
            outputs.setdefault(row.job, {})[row.output] = Output(
                row.job, row.output, row.attempt, values, row.files, row.facts
            )
        columns = db.attempts.c
        spent = select(columns.job, func.sum(columns.device_s)).group_by(columns.job)
        device_s = {row[0]: float(row[1]) for row in connection.execute(spent)}
    return Results(outputs, device_s)


_JOBS, _POINTS = 500, 100_000
"""How many jobs are asked about at once, and how many points are read."""


def read_points(
    store: Store, jobs: Sequence[str]
) -> Iterator[Sequence[tuple[str, str, int, int, float | None]]]:
    """Job, name, step, attempt and value of each metric that jobs reported, some at a time.

    Those of a job come in the order of their steps.
    """
    columns = db.points.c
    asked = select(columns.job, columns.name, columns.step, columns.attempt, columns.value)
    for start in range(0, len(jobs), _JOBS):
        some = asked.where(columns.job.in_(jobs[start : start + _JOBS]))
        with store.read() as connection:
            found = connection.execute(some.order_by(columns.job, columns.step, columns.name))
            for rows in found.partitions(_POINTS):
                yield [(row.job, row.name, row.step, row.attempt, row.value) for row in rows]


@dataclass(frozen=True)
class Group:
    """The cells that one entry of a table sums up: one arm and sweep point on one task."""

    experiment: str
    arm: str
    task: str
    point: str
    """The swept settings and, of a timing, that it is untrained, as shown; empty where neither."""
    cells: tuple[Cell, ...]
    plan_only: bool
    """Whether the experiment is only planned."""
    heading: str
    """The group of experiments that it belongs to."""
    untrained: bool
    """Whether an arm is timed as it was initialised."""

    @property
    def row(self) -> str:
        """The name of the table row: the arm, and the sweep point where there is one."""
        return f"{self.arm} ({self.point})" if self.point else self.arm


def groups(plan: Plan, experiments: Sequence[str]) -> list[Group]:
    """The entries of a table over these experiments, in the order in which the spec names them."""
    collected: dict[tuple[str, str, str, str], list[Cell]] = {}
    by_experiment: dict[str, list[Cell]] = {}
    for cell in plan.expansion.cells:
        by_experiment.setdefault(cell.experiment, []).append(cell)
    for experiment in experiments:
        for cell in by_experiment.get(experiment, ()):
            shown = [point_text(cell.point), "untrained" if _untrained(cell, plan) else ""]
            key = (experiment, cell.arm, cell.task, ", ".join(filter(None, shown)))
            collected.setdefault(key, []).append(cell)
    homes = {e.name: e for e in plan.loaded.spec.experiment}
    return [
        Group(
            *key,
            tuple(cells),
            homes[key[0]].plan_only,
            homes[key[0]].group or key[0],
            _untrained(cells[0], plan),
        )
        for key, cells in collected.items()
    ]


def point_text(point: Mapping[str, Any]) -> str:
    """The settings of a sweep point as tables and figures show them."""
    return ", ".join(f"{key.split('.')[-1]}={value}" for key, value in point.items())


def _untrained(cell: Cell, plan: Plan) -> bool:
    """Whether an arm is timed as it was initialised: nothing else has a seed and no fit."""
    return plan.expansion.jobs[cell.evaluate].kind == "latency" and cell.seeded and not cell.fit


def file_of(runs: Path, output: Output, name: str) -> Path:
    """Where a file of a taken output lies."""
    return runs / output.job / f"attempt-{output.attempt}" / name
