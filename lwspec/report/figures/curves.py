"""Figures of curves: metrics after each epoch, and one metric over a swept setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from lwspec.engine.metrics import METRICS
from lwspec.engine.plan.expand import Cell
from lwspec.engine.plan.plan import Plan
from lwspec.engine.spec.artefacts import Figure
from lwspec.engine.spec.controls import replaces_message
from lwspec.report.figures.panel import Panel, Point, Series, doubles, point
from lwspec.report.numbers import Numbers
from lwspec.report.query import Group, groups
from lwspec.report.statistics.intervals import over_seeds

OF_EPOCHS = (
    ("train_loss", "training loss (nats a token)", 1.0),
    ("validation_accuracy", "validation accuracy (%)", 100.0),
    ("validation_rougeL", "validation ROUGE-L (%)", 100.0),
    ("validation_first_token_accuracy", "validation first-token accuracy (%)", 100.0),
)


def learning_curves(figure: Figure, numbers: Numbers) -> list[Panel]:
    """A panel for each metric of an epoch, a curve for each arm, sweep point and task.

    Controls of the message have no curve: their fits are those of the arms as they are.
    """
    every = groups(numbers.plan, figure.experiments)
    found = [group for group in every if not replaces_message(group.cells[0].point)]
    homes = _homes(found)
    return [
        Panel(title, "epoch", [_epochs(group, homes, metric, factor, numbers) for group in found])
        for metric, title, factor in OF_EPOCHS
    ]


def missing_epochs(figure: Figure, numbers: Numbers) -> list[str]:
    """What a figure of learning curves lacks."""
    plan, lines = numbers.plan, []
    for group in groups(plan, figure.experiments):
        for cell in () if group.plan_only else _fits(group):
            wanted = _wanted_epochs(cell, plan)
            made = len(wanted & set(numbers.results.outputs.get(str(cell.fit), {})))
            if made < len(wanted):
                label = plan.expansion.jobs[str(cell.fit)].label
                lines.append(f"{label}: {made} of {len(wanted)} epochs")
    return list(dict.fromkeys(lines))


def _fits(group: Group) -> list[Cell]:
    return list({cell.fit: cell for cell in group.cells if cell.fit is not None}.values())


def _epochs(
    group: Group, homes: dict[str, int], metric: str, factor: float, numbers: Numbers
) -> Series:
    """The mean over the seeds that have begun, at the epochs that all of them have finished."""
    cells = _fits(group)
    found = [_of_epochs(cell, metric, numbers) for cell in cells]
    begun = [values for values in found if values]
    jobs = [str(cell.fit) for cell, values in zip(cells, found, strict=True) if values]
    count = "" if len(begun) == len(cells) else f" ({len(begun)} of {len(cells)} seeds)"
    most = factor if factor == 100.0 else math.inf  # per cent end at 100, losses nowhere
    points = []
    for epoch in sorted(set.intersection(*map(set, begun))) if begun else ():
        mean = over_seeds([values[epoch] * factor for values in begun])
        made = point(float(epoch), mean, jobs)
        points.append(replace(made, low=max(0.0, made.low), high=min(most, made.high)))
    return Series(f"{_name(group, homes)}{count}", tuple(points))


def _of_epochs(cell: Cell, metric: str, numbers: Numbers) -> dict[int, float]:
    """A metric of one fit after each epoch that the cell asks for and that has it."""
    wanted = _wanted_epochs(cell, numbers.plan)
    return {
        int(output.name.rpartition("-")[2]): output.metrics[metric]
        for output in numbers.results.epochs(cell)
        if output.name in wanted and metric in output.metrics
    }


def _wanted_epochs(cell: Cell, plan: Plan) -> set[str]:
    """The epochs that this cell asks for; another experiment may have trained the fit further."""
    ((_, count),) = plan.expansion.jobs[cell.evaluate].settings["checkpoint"].items()
    return {f"epoch-{epoch:03d}" for epoch in range(1, count + 1)}


def _homes(found: Sequence[Group]) -> dict[str, int]:
    """How many experiments have a curve of one name."""
    homes: dict[str, set[str]] = {}
    for group in found:
        homes.setdefault(f"{group.row}, {group.task}", set()).add(group.experiment)
    return {name: len(experiments) for name, experiments in homes.items()}


def _name(group: Group, homes: dict[str, int]) -> str:
    """A curve's name: arm, task and, where two experiments have it, the experiment."""
    name = f"{group.row}, {group.task}"
    return name if homes[name] == 1 else f"{name}, {group.experiment}"


def sweep(figure: Figure, numbers: Numbers) -> list[Panel]:
    """One metric over the swept setting: a curve for each arm and task."""
    lines: dict[str, list[Point]] = {}
    found = groups(numbers.plan, figure.experiments)
    several = len({group.experiment for group in found}) > 1
    for group in found:
        ((_, value),) = group.cells[0].point.items()
        home = f", {group.experiment}" if several else ""
        estimate = numbers.estimate(group, figure.metric)
        if estimate is not None:
            jobs = (out.job for out in numbers.found(group).outputs)
            name = f"{group.arm}, {group.task}{home}"
            lines.setdefault(name, []).append(point(float(value), estimate, jobs))
    keys = dict.fromkeys(key.split(".")[-1] for group in found for key in group.cells[0].point)
    series = [
        Series(name, tuple(sorted(points, key=lambda p: p.x))) for name, points in lines.items()
    ]
    return [Panel(METRICS[figure.metric].title, ", ".join(keys), series, doubling=doubles(series))]
