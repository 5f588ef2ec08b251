"""What each kind of figure shows, computed from the records."""

from __future__ import annotations

from collections.abc import Sequence

from lwspec.engine.metrics import METRICS
from lwspec.engine.plan import Plan
from lwspec.engine.spec import Figure
from lwspec.report.query import Group, Results, groups
from lwspec.report.stats import over_seeds
from lwspec.report.style import Curve, Panel
from lwspec.report.tables import OUTSIDE, Entry, table_entry

PANELS = (
    ("train_loss", "training loss (nats a token)", 1.0),
    ("validation_accuracy", "validation accuracy (%)", 100.0),
    ("validation_rougeL", "validation ROUGE-L", 100.0),
    ("validation_first_token_accuracy", "validation first-token accuracy (%)", 100.0),
)


def panels(figure: Figure, plan: Plan, results: Results) -> list[Panel]:
    """The figure's panels that hold any curve."""
    made = {"learning_curves": _learning_curves, "sweep": _sweep}[figure.kind]
    return [panel for panel in made(figure, plan, results) if panel.curves]


def missing_runs(figure: Figure, plan: Plan, results: Results) -> list[str]:
    """What the records lack of a figure."""
    if figure.kind == "learning_curves":
        return _missing_epochs(figure, plan, results)
    return [
        plan.expansion.jobs[job].label
        for group in groups(plan, figure.experiments)
        for job in table_entry(group, figure.metric, results).missing
    ]


def _learning_curves(figure: Figure, plan: Plan, results: Results) -> list[Panel]:
    """A panel for each metric of an epoch, a curve for each arm, sweep point and task."""
    found = groups(plan, figure.experiments)
    homes = _homes(found)
    return [
        Panel(
            title,
            "epoch",
            [
                curve
                for group in found
                if (curve := _epochs(group, homes, metric, factor, plan, results)).x
            ],
        )
        for metric, title, factor in PANELS
    ]


def _epochs(
    group: Group, homes: dict[str, int], metric: str, factor: float, plan: Plan, results: Results
) -> Curve:
    """The mean over the seeds that have begun, for as many epochs as all of them have finished."""
    fits = {cell.fit: cell for cell in group.cells if cell.fit is not None}
    series = []
    for cell in fits.values():
        wanted = _wanted_epochs(cell.evaluate, plan)
        outputs = [output for output in results.epochs(cell) if output.name in wanted]
        series.append([o.metrics[metric] * factor for o in outputs if metric in o.metrics])
    begun = [values for values in series if values]
    epochs = min((len(values) for values in begun), default=0)
    estimates = [over_seeds([values[epoch] for values in begun]) for epoch in range(epochs)]
    count = "" if len(begun) == len(series) else f" ({len(begun)} of {len(series)} seeds)"
    return Curve(
        f"{_name(group, homes)}{count}",
        tuple(float(epoch) for epoch in range(1, epochs + 1)),
        tuple(e.mean for e in estimates),
        tuple(e.mean if e.low is None else e.low for e in estimates),
        tuple(e.mean if e.high is None else e.high for e in estimates),
    )


def _wanted_epochs(evaluate: str, plan: Plan) -> set[str]:
    """The epochs that this cell asks for; another experiment may have trained the fit further."""
    ((_, count),) = plan.expansion.jobs[evaluate].settings["checkpoint"].items()
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


def _missing_epochs(figure: Figure, plan: Plan, results: Results) -> list[str]:
    lines = []
    for group in groups(plan, figure.experiments):
        if group.plan_only:
            continue
        for cell in {cell.fit: cell for cell in group.cells if cell.fit is not None}.values():
            wanted = _wanted_epochs(cell.evaluate, plan)
            made = len(wanted & set(results.outputs.get(str(cell.fit), {})))
            if made < len(wanted):
                label = plan.expansion.jobs[str(cell.fit)].label
                lines.append(f"{label}: {made} of {len(wanted)} epochs")
    return list(dict.fromkeys(lines))


def _sweep(figure: Figure, plan: Plan, results: Results) -> list[Panel]:
    """One metric over the swept setting: a curve for each arm and task."""
    lines: dict[str, dict[float, Entry]] = {}
    found = groups(plan, figure.experiments)
    several = len({group.experiment for group in found}) > 1
    for group in found:
        ((_, value),) = group.cells[0].point.items()
        home = f", {group.experiment}" if several else ""
        entry = table_entry(group, figure.metric, results)
        if entry.estimate is not None:
            lines.setdefault(f"{group.arm}, {group.task}{home}", {})[float(value)] = entry
    keys = dict.fromkeys(key.split(".")[-1] for group in found for key in group.cells[0].point)
    metric = METRICS[figure.metric]
    curves = [_curve(name, lines[name]) for name in lines]
    title = metric.heading + (" (%)" if metric.factor == 100.0 else "")
    return [Panel(title, ", ".join(keys) or OUTSIDE, curves, _doubles(curves))]


def _curve(name: str, entries: dict[float, Entry]) -> Curve:
    places = sorted(entries)
    estimates = [e for place in places if (e := entries[place].estimate) is not None]
    return Curve(
        name,
        tuple(places),
        tuple(e.mean for e in estimates),
        tuple(e.mean if e.low is None else e.low for e in estimates),
        tuple(e.mean if e.high is None else e.high for e in estimates),
    )


def _doubles(curves: Sequence[Curve]) -> bool:
    """Whether the places are such that each is twice the one before."""
    places = sorted({x for curve in curves for x in curve.x})
    pairs = list(zip(places, places[1:], strict=False))
    return len(pairs) > 1 and all(a > 0 and b == 2 * a for a, b in pairs)
