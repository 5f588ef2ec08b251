"""One house style for every figure: vector PDF, the same bytes from the same records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

MOST_TICKS = 9

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":")
"""Markers and dashes tell the curves apart in grey."""


@dataclass(frozen=True)
class Curve:
    """One line of a panel: a value and its interval at each place on the horizontal axis."""

    label: str
    x: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """Curves over one pair of axes."""

    title: str
    x_label: str
    curves: Sequence[Curve]
    doubling: bool = False
    """Whether the horizontal axis counts doublings."""


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Draw panels side by side under one legend, with a band around each curve; writes a PDF."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context(STYLE):
        figure, row = pyplot.subplots(
            1, len(panels), figsize=(6.75, 2.4), layout="constrained", squeeze=False
        )
        names = list(dict.fromkeys(curve.label for panel in panels for curve in panel.curves))
        shown: dict[str, Any] = {}
        for axis, panel in zip(row[0], panels, strict=True):
            _draw_panel(axis, panel, names)
            handles, labels = axis.get_legend_handles_labels()
            shown |= dict(zip(labels, handles, strict=True))
        figure.legend(
            [shown[name] for name in names],
            names,
            loc="outside lower center",
            ncols=min(4, len(names)),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"CreationDate": None, "ModDate": None, "Producer": None})
        pyplot.close(figure)


def _draw_panel(axis: Any, panel: Panel, names: Sequence[str]) -> None:
    """One panel; a curve looks alike in every panel of the figure."""
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, ScalarFormatter

    for curve in panel.curves:
        index = names.index(curve.label)
        colour = COLOURS[index % len(COLOURS)]
        axis.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
        axis.plot(
            curve.x,
            curve.mean,
            color=colour,
            marker=MARKERS[index % len(MARKERS)],
            linestyle=LINES[index % len(LINES)],
            label=curve.label,
        )
    axis.set_xlabel(panel.x_label)
    axis.set_title(panel.title)
    places = sorted({x for curve in panel.curves for x in curve.x})
    if panel.doubling:
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_locator(FixedLocator(places))
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.xaxis.set_minor_locator(NullLocator())
    elif len(places) <= MOST_TICKS:
        axis.xaxis.set_major_locator(FixedLocator(places))
    elif all(float(x).is_integer() for x in places):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
