"""Figures as vector PDF in one house style, the same bytes from the same records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwspec.engine.plan import Plan
from lwspec.engine.spec import Figure
from lwspec.report.query import Group, Results, groups
from lwspec.report.stats import over_seeds

STYLE: Any = {
    "font.family": "serif",
    "font.serif": ["STIXGeneral"],
    "mathtext.fontset": "stix",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "pdf.fonttype": 42,
    "figure.dpi": 150,
}

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe and Ito's palette (2008), told apart by colour-blind readers."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":")
"""Markers and dashes tell the curves apart in grey."""

PANELS = (
    ("train_loss", "training loss (nats a token)", 1.0),
    ("validation_accuracy", "validation accuracy (%)", 100.0),
    ("validation_rougeL", "validation ROUGE-L", 100.0),
    ("validation_first_token_accuracy", "validation first-token accuracy (%)", 100.0),
)


@dataclass(frozen=True)
class Curve:
    """One line of a panel: a value per epoch that every seed has finished, and its interval."""

    label: str
    epochs: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def learning_curves(figure: Figure, plan: Plan, results: Results) -> Mapping[str, Sequence[Curve]]:
    """The curves of each panel, from the epochs that were recorded."""
    panels: dict[str, list[Curve]] = {metric: [] for metric, _, _ in PANELS}
    for group in groups(plan, figure.experiments):
        for metric, _, factor in PANELS:
            curve = _curve(group, metric, factor, plan, results)
            if curve.epochs:
                panels[metric].append(curve)
    return panels


def _curve(group: Group, metric: str, factor: float, plan: Plan, results: Results) -> Curve:
    """The mean over the seeds that have begun, for as many epochs as all of them have finished."""
    fits = {cell.fit: cell for cell in group.cells if cell.fit is not None}
    series = []
    for fit, cell in fits.items():
        asked = plan.expansion.jobs[str(fit)].outputs
        outputs = [output for output in results.epochs(cell) if output.name in asked]
        series.append([o.metrics[metric] * factor for o in outputs if metric in o.metrics])
    begun = [values for values in series if values]
    epochs = min((len(values) for values in begun), default=0)
    estimates = [over_seeds([values[epoch] for values in begun]) for epoch in range(epochs)]
    count = "" if len(begun) == len(series) else f" ({len(begun)} of {len(series)} seeds)"
    return Curve(
        f"{group.row}, {group.task}{count}",
        tuple(range(1, epochs + 1)),
        tuple(e.mean for e in estimates),
        tuple(e.mean if e.low is None else e.low for e in estimates),
        tuple(e.mean if e.high is None else e.high for e in estimates),
    )


def missing_epochs(figure: Figure, plan: Plan, results: Results) -> list[str]:
    """The fits behind a figure that lack epochs, with how many they have."""
    lines = []
    for group in groups(plan, figure.experiments):
        for fit in dict.fromkeys(cell.fit for cell in group.cells if cell.fit is not None):
            job = plan.expansion.jobs[fit]
            made = sum(output in results.outputs.get(fit, {}) for output in job.outputs)
            if made < len(job.outputs):
                lines.append(f"{job.label}: {made} of {len(job.outputs)} epochs")
    return lines


def draw_learning_curves(panels: Mapping[str, Sequence[Curve]], path: Path) -> None:
    """Draw the panels side by side, with a band over seeds, and write a PDF."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    with matplotlib.rc_context(STYLE):
        drawn = [(metric, title) for metric, title, _ in PANELS if panels[metric]]
        figure, row = pyplot.subplots(
            1, len(drawn), figsize=(6.75, 2.4), layout="constrained", squeeze=False
        )
        axes = row[0]
        for axis, (metric, title) in zip(axes, drawn, strict=True):
            for index, curve in enumerate(panels[metric]):
                colour = COLOURS[index % len(COLOURS)]
                axis.fill_between(
                    curve.epochs, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0
                )
                axis.plot(
                    curve.epochs,
                    curve.mean,
                    color=colour,
                    marker=MARKERS[index % len(MARKERS)],
                    linestyle=LINES[index % len(LINES)],
                    label=curve.label,
                )
            axis.set_xlabel("epoch")
            axis.set_title(title)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles, labels = axes[0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"CreationDate": None, "ModDate": None, "Producer": None})
        pyplot.close(figure)
