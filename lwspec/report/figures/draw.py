"""One house style for every figure: vector PDF, the same bytes from the same records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lwspec.report.figures.panel import Panel, Series

STYLE: Any = {
    "font.family": "serif",
    "font.serif": ["STIXGeneral", "DejaVu Serif"],
    "mathtext.fontset": "stix",
    "text.parse_math": False,
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "pdf.fonttype": 42,
}

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe and Ito's palette (2008), told apart by colour-blind readers."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":")
GREYS = ("#0072B2", "#E69F00", "#9ADBC5", "#F7E9F1")
HATCHES = ("", "////", "", "....")
"""Markers, dashes, hatches and lightness tell series apart in grey."""

WIDTH_IN = 5.5
LEGEND_LINE_IN = 0.16
MOST_TICKS = 9
MOST_COLUMNS = 3


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Draw panels beside and below each other under one legend; writes a PDF."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = min(MOST_COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    names = list(dict.fromkeys(one.label for panel in panels for one in panel.series))
    legend = names + list(dict.fromkeys(p.whole.label for p in panels if p.whole is not None))
    across = _legend_columns(legend)
    legend_in = LEGEND_LINE_IN * math.ceil(len(legend) / across) if len(legend) > 1 else 0.0
    with matplotlib.rc_context(STYLE):
        figure, axes = pyplot.subplots(
            lines,
            columns,
            figsize=(WIDTH_IN, lines * max(map(_height_in, panels)) + legend_in),
            layout="constrained",
            squeeze=False,
            sharey="row" if all(panel.rows == panels[0].rows != () for panel in panels) else "none",
        )
        shown: dict[str, Any] = {}
        for axis, panel in zip(axes.flat, panels, strict=False):
            _DRAWN[panel.form](axis, panel, names)
            handles, labels = axis.get_legend_handles_labels()
            shown |= dict(zip(labels, handles, strict=True))
        for axis in axes.flat[len(panels) :]:
            axis.set_axis_off()
        if len(legend) > 1:
            handles = [shown[name] for name in legend]
            figure.legend(handles, legend, loc="outside lower center", ncols=across)
        path.parent.mkdir(parents=True, exist_ok=True)
        _save(figure, path)


def draw_missing(missing: int, path: Path) -> None:
    """Say in the figure's place that nothing of it has finished."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context(STYLE):
        figure = pyplot.figure(figsize=(WIDTH_IN, 0.6))
        figure.text(0.5, 0.5, f"not run: {missing} runs are missing", ha="center", style="italic")
        _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    figure.savefig(path, metadata={"CreationDate": None, "ModDate": None, "Producer": None})
    pyplot.close(figure)


def _height_in(panel: Panel) -> float:
    return 0.75 + 0.17 * len(panel.rows) if panel.rows else 1.9


def _legend_columns(labels: Sequence[str]) -> int:
    """As many as fit beside each other: about 95 characters of legend go into the width."""
    return max(1, min(len(labels), 95 // (max(map(len, labels)) + 6)))


def _look(names: Sequence[str], one: Series) -> dict[str, Any]:
    """A series looks alike in every panel of the figure."""
    index = names.index(one.label)
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": LINES[index % len(LINES)],
        "label": one.label,
    }


def _draw_lines(axis: Any, panel: Panel, names: Sequence[str]) -> None:
    """Curves, each with its interval as a band, or as bars."""
    for one in panel.series:
        look = _look(names, one)
        x, mean, low, high = _columns(one)
        if panel.form == "lines":
            axis.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)
            axis.plot(x, mean, **look)
        else:
            axis.errorbar(x, mean, yerr=_reach(mean, low, high), elinewidth=0.7, **look)
    axis.set_xlabel(panel.label)
    axis.set_title(panel.title)
    _set_ticks(axis, panel)


def _draw_dots(axis: Any, panel: Panel, names: Sequence[str]) -> None:
    """A dot with its interval in each row, dots of one row told apart by their looks."""
    for one in panel.series:
        x, mean, low, high = _columns(one)
        look = {**_look(names, one), "linestyle": "none"}
        axis.errorbar(mean, x, xerr=_reach(mean, low, high), elinewidth=0.9, **look)
    axis.set_title(panel.title)
    axis.grid(axis="y", color="0.9", linewidth=0.5)
    axis.set_axisbelow(True)
    _set_rows(axis, panel)


def _draw_stacked(axis: Any, panel: Panel, names: Sequence[str]) -> None:
    """Each row's values one after the other, and the whole as a diamond."""
    ends = dict.fromkeys(range(len(panel.rows)), 0.0)
    for index, one in enumerate(panel.series):
        x, mean, _, _ = _columns(one)
        starts = [ends[int(row)] for row in x]
        axis.barh(
            x,
            mean,
            left=starts,
            height=0.62,
            color=GREYS[index % len(GREYS)],
            hatch=HATCHES[index % len(HATCHES)],
            edgecolor="black",
            linewidth=0.4,
            label=one.label,
        )
        ends |= {int(row): start + v for row, start, v in zip(x, starts, mean, strict=True)}
    if panel.whole is not None:
        x, mean, low, high = _columns(panel.whole)
        axis.errorbar(
            mean,
            x,
            xerr=_reach(mean, low, high),
            color="black",
            marker="D",
            markersize=3,
            markerfacecolor="white",
            linestyle="none",
            elinewidth=0.7,
            label=panel.whole.label,
        )
    axis.set_title(panel.title)
    _set_rows(axis, panel)


_DRAWN = {
    "lines": _draw_lines,
    "points": _draw_lines,
    "dots": _draw_dots,
    "stacked": _draw_stacked,
}


def _columns(one: Series) -> tuple[list[float], list[float], list[float], list[float]]:
    points = one.points
    return (
        [p.x for p in points],
        [p.mean for p in points],
        [p.low for p in points],
        [p.high for p in points],
    )


def _reach(mean: list[float], low: list[float], high: list[float]) -> list[list[float]]:
    """How far the bars go below and above; an interval on another scale may end at its mean."""
    return [
        [max(0.0, m - end) for m, end in zip(mean, low, strict=True)],
        [max(0.0, end - m) for m, end in zip(mean, high, strict=True)],
    ]


def _set_rows(axis: Any, panel: Panel) -> None:
    axis.set_xlabel(panel.label)
    axis.set_yticks(range(len(panel.rows)), panel.rows)
    axis.set_ylim(len(panel.rows) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)


def _set_ticks(axis: Any, panel: Panel) -> None:
    """Ticks at the places measured where they are few, else at round numbers."""
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, ScalarFormatter

    places = sorted({point.x for one in panel.series for point in one.points})
    if panel.doubling:
        axis.set_xscale("log", base=2)
        axis.xaxis.set_minor_locator(NullLocator())
        if panel.form == "lines":
            axis.xaxis.set_major_locator(FixedLocator(places))
        axis.xaxis.set_major_formatter(ScalarFormatter())
    elif len(places) <= MOST_TICKS:
        axis.xaxis.set_major_locator(FixedLocator(places))
    elif all(float(x).is_integer() for x in places):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
