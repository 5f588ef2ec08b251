"""Figures that hold arms beside each other: scores, scores against bytes, and time by component."""

from __future__ import annotations

from collections.abc import Sequence

from lwspec.engine.metrics import METRICS
from lwspec.engine.spec.artefacts import Figure, Table
from lwspec.report.figures.panel import Panel, Point, Series, point
from lwspec.report.numbers import Numbers
from lwspec.report.query import Group, groups, point_text
from lwspec.report.statistics.intervals import Estimate
from lwspec.report.tables.layout import layout

COMPONENTS = ("sender", "adapter", "prefill", "decode")


def arms(figure: Figure, numbers: Numbers) -> list[Panel]:
    """A panel for each task, a row for each arm and sweep point."""
    table = Table(name=figure.name, experiments=figure.experiments, metric=(figure.metric,))
    laid = layout(table, numbers.plan)
    panels = []
    for column in laid.columns:
        points = []
        for place, row in enumerate(laid.rows):
            slot = laid.slots.get((row, column))
            estimate = slot and numbers.estimate(slot.group, figure.metric)
            if slot and estimate:
                points.append(point(place, estimate, _jobs(slot.group, numbers)))
        series = [Series(METRICS[figure.metric].title, tuple(points))]
        panels.append(Panel(column, METRICS[figure.metric].title, series, "dots", laid.rows))
    return panels


def against_bytes(figure: Figure, numbers: Numbers) -> list[Panel]:
    """A panel for each task: one metric of each arm against the bytes of its messages.

    Arms that send nothing have no place on a logarithmic axis and are left out.
    """
    found = groups(numbers.plan, figure.experiments)
    homes: dict[str, set[str]] = {}
    for group in found:
        homes.setdefault(group.arm, set()).add(group.experiment)
    panels: dict[str, dict[str, list[Point]]] = {}
    for group in found:
        size = numbers.estimate(group, "message_bytes")
        estimate = numbers.estimate(group, figure.metric)
        if size is None or estimate is None or size.mean <= 0:
            continue
        name = group.arm if len(homes[group.arm]) == 1 else f"{group.arm}, {group.experiment}"
        made = point(size.mean, estimate, _jobs(group, numbers))
        panels.setdefault(group.task, {}).setdefault(name, []).append(made)
    return [
        Panel(
            f"{task}: {METRICS[figure.metric].title}",
            "bytes of a message",
            [Series(name, tuple(sorted(ps, key=lambda p: p.x))) for name, ps in lines.items()],
            "points",
            doubling=True,
        )
        for task, lines in panels.items()
    ]


def latency(figure: Figure, numbers: Numbers) -> list[Panel]:
    """A panel for each task and sweep point: the components of each arm's time, stacked."""
    panels: dict[str, list[Group]] = {}
    for group in groups(numbers.plan, figure.experiments):
        swept = point_text(group.cells[0].point)
        panels.setdefault(f"{group.task}, {swept}" if swept else group.task, []).append(group)
    made = [_breakdown(title, found, numbers) for title, found in panels.items()]
    return [panel for panel in made if panel.whole and panel.whole.points]


def _breakdown(title: str, found: Sequence[Group], numbers: Numbers) -> Panel:
    rows = [f"{g.arm} (untrained)" if g.untrained else g.arm for g in found]
    series = []
    for component in COMPONENTS:
        points = [
            point(place, estimate, _jobs(group, numbers))
            for place, group in enumerate(found)
            if (estimate := numbers.estimate(group, f"{component}_ms")) is not None
        ]
        series.append(Series(component, tuple(points)))
    whole = []
    for place, group in enumerate(found):
        mean = numbers.estimate(group, "total_ms")
        slow = numbers.estimate(group, "total_ms_p95")
        if mean is not None and slow is not None:
            shown = Estimate(mean.mean, mean.mean, max(mean.mean, slow.mean), mean.method)
            whole.append(point(place, shown, _jobs(group, numbers)))
    together = Series("whole, to 95th percentile", tuple(whole))
    return Panel(title, "milliseconds a batch", series, "stacked", tuple(rows), together)


def _jobs(group: Group, numbers: Numbers) -> list[str]:
    return [output.job for output in numbers.found(group).outputs]
