"""A figure as the page shows it: its panels as SVG, its legend, and its data as a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from lwspec.report.content import FigureData
from lwspec.report.figures.panel import Panel, Point, Series
from lwspec.report.page.behind import Behind
from lwspec.report.page.plot import Drawing, draw_panel, swatch
from lwspec.report.page.scale import number_text, tick_text


@dataclass(frozen=True)
class Line:
    """A line of a figure's data table."""

    panel: str
    series: str
    place: str
    value: str
    interval: str
    link: str
    runs: int


@dataclass(frozen=True)
class Key:
    """An entry of a figure's legend."""

    look: int
    label: str
    swatch: Markup


@dataclass(frozen=True)
class Shown:
    """Everything that the page shows of a figure."""

    id: str
    name: str
    caption: str
    panels: tuple[tuple[str, Markup], ...]
    legend: tuple[Key, ...]
    """Empty where there is but one series."""
    lines: tuple[Line, ...]
    place: str
    """The heading of the places at which was measured."""
    missing: tuple[str, ...]


def show_figure(data: FigureData, id: str, behind: Behind) -> Shown:
    """Draw a figure and list its data."""
    names = _names(data)
    lines: list[Line] = []
    panels = []
    for number, panel in enumerate(data.panels):
        starts = {}
        for one in _series(panel):
            starts[one.label] = len(lines)
            lines += _lines(data.figure.name, panel, one, behind)
        drawing = Drawing(panel, names, starts, f"{id}-p{number}")
        panels.append((panel.title, draw_panel(drawing)))
    legend = tuple(_legend(data, names, id)) if len(names) > 1 else ()
    rows = any(panel.rows for panel in data.panels)
    labels = dict.fromkeys(panel.label for panel in data.panels)
    return Shown(
        id,
        data.figure.name,
        data.figure.caption,
        tuple(panels),
        legend,
        tuple(lines),
        "row" if rows else " or ".join(labels),
        data.missing,
    )


def _series(panel: Panel) -> list[Series]:
    return [*panel.series, *([panel.whole] if panel.whole else [])]


def _names(data: FigureData) -> list[str]:
    """Every series of a figure, wholes last."""
    parts = [one.label for panel in data.panels for one in panel.series]
    wholes = [panel.whole.label for panel in data.panels if panel.whole]
    return list(dict.fromkeys([*parts, *wholes]))


def _legend(data: FigureData, names: list[str], id: str) -> Iterator[Key]:
    form = data.panels[0].form
    wholes = {panel.whole.label for panel in data.panels if panel.whole}
    for look, name in enumerate(names):
        yield Key(look, name, swatch(look, form, name in wholes, f"{id}-k{look}"))


def _lines(figure: str, panel: Panel, one: Series, behind: Behind) -> Iterator[Line]:
    for point in one.points:
        place = panel.rows[int(point.x)] if panel.rows else tick_text(point.x)
        shown = f"{panel.title}, {one.label}, {place}"
        link = behind.link(point.jobs, f"figure {figure}", shown)
        yield Line(
            panel.title,
            one.label,
            place,
            number_text(point.mean),
            _interval(point),
            link,
            len(point.jobs),
        )


def _interval(point: Point) -> str:
    if point.low == point.high:
        return "none"
    return f"{number_text(point.low)} to {number_text(point.high)}"
