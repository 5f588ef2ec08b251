"""A panel of a figure as SVG: curves with bands, points with bars, dots in rows, stacked bars.

Colours are classes that the style sheet fills in, for light and for dark; markers, dashes and
hatches tell series apart without them. Each mark names the line of the data table below it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lwspec.report.figures.draw import COLOURS, GREYS
from lwspec.report.figures.panel import Panel, Series
from lwspec.report.page import axes
from lwspec.report.page.axes import BOTTOM, HEIGHT, LEFT, RIGHT, ROW, TOP, WIDTH
from lwspec.report.page.scale import Scale, number_text, place_scale, value_scale
from lwspec.report.page.svg import path, tag

DASHES = (None, "6 3", "7 3 2 3", "2 3")
MARKERS = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0Z",
    "M-3.5-3.5H3.5V3.5H-3.5Z",
    "M0-4.5L4.3 3.5H-4.3Z",
    "M0-5L5 0L0 5L-5 0Z",
    "M0 4.5L4.3-3.5H-4.3Z",
    "M-1.6-4.5H1.6V-1.6H4.5V1.6H1.6V4.5H-1.6V1.6H-4.5V-1.6H-1.6Z",
    "M-4.3-2.3L-2.3-4.3L0-2L2.3-4.3L4.3-2.3L2 0L4.3 2.3L2.3 4.3L0 2L-2.3 4.3L-4.3 2.3L-2 0Z",
)
"""Circle, square, triangle, diamond, triangle, plus, cross: those of the paper's figures."""
WHOLE = MARKERS[3]


@dataclass(frozen=True)
class Drawing:
    """One panel, and what it shares with the others of its figure."""

    panel: Panel
    names: Sequence[str]
    """Of the figure's series: one looks alike in every panel."""
    lines: Mapping[str, int]
    """Series to the line of the figure's data table that holds its first point."""
    id: str
    """Prefix of the ids inside."""

    def look(self, one: Series) -> int:
        """Which of the looks a series has."""
        return self.names.index(one.label)

    def group(self, one: Series, marks: Iterable[str]) -> Markup:
        """A series' marks, which its entry of the legend shows and hides."""
        look, whole = self.look(one), one is self.panel.whole
        return tag("g", *marks, class_=_class(look, self.panel.form, whole), data_s=look)

    def mark(self, one: Series, index: int, x: float, y: float) -> Markup:
        """The marker of a series' point of this index."""
        return tag(
            "path",
            class_="pt",
            data_p=self.lines[one.label] + index,
            transform=f"translate({x:.1f} {y:.1f})",
            d=WHOLE if one is self.panel.whole else MARKERS[self.look(one) % len(MARKERS)],
        )


def draw_panel(drawing: Drawing) -> Markup:
    """The panel as one SVG element with its title and description."""
    height, marks = _DRAWN[drawing.panel.form](drawing)
    title, description = f"{drawing.id}-t", f"{drawing.id}-d"
    return tag(
        "svg",
        tag("title", drawing.panel.title, id=title),
        tag("desc", _described(drawing.panel), id=description),
        *marks,
        viewBox=f"0 0 {WIDTH:.0f} {height:.0f}",
        role="img",
        aria_labelledby=title,
        aria_describedby=description,
    )


def swatch(look: int, form: str, whole: bool, id: str) -> Markup:
    """A series as the legend shows it."""
    at = {"transform": "translate(14 7)"}
    marks = []
    if whole:
        marks = [tag("path", d=WHOLE, **at)]
    elif form == "stacked":
        box = {"x": 2, "y": 1, "width": 24, "height": 12}
        over = axes.hatch_over(id, look % len(GREYS), **box)
        marks = [axes.hatches(id), tag("rect", class_="bar", **box), *over]
    else:
        if form != "dots":
            dash = DASHES[look % len(DASHES)]
            marks = [tag("path", class_="line", d="M0 7H28", stroke_dasharray=dash)]
        marks.append(tag("path", class_="pt", d=MARKERS[look % len(MARKERS)], **at))
    drawn = tag("g", *marks, class_=_class(look, form, whole))
    return tag("svg", drawn, class_="swatch", viewBox="0 0 28 14", aria_hidden="true")


def _class(look: int, form: str, whole: bool) -> str:
    """The style sheet's name for a look."""
    if whole:
        return "whole"
    return f"w{look % len(GREYS)}" if form == "stacked" else f"s{look % len(COLOURS)}"


def _described(panel: Panel) -> str:
    values = [point.mean for one in panel.series for point in one.points]
    span = f"{len(values)} values from {number_text(min(values))} to {number_text(max(values))}"
    names = ", ".join(one.label for one in panel.series)
    over = f"in {len(panel.rows)} rows" if panel.rows else f"over {panel.label}"
    return f"{names}: {span}, {over}. The table below the figure holds every value."


def _curves(drawing: Drawing) -> tuple[float, Iterator[Markup]]:
    """Curves in bands, or points with bars joined by a line."""
    panel = drawing.panel
    points = [point for one in panel.series for point in one.points]
    ends = [end for p in points for end in (p.low, p.high)]
    up, levels = value_scale(ends, HEIGHT - BOTTOM, TOP)
    across, places = place_scale(
        [p.x for p in points], LEFT, WIDTH - RIGHT, doubling=panel.doubling
    )

    def marks() -> Iterator[Markup]:
        yield from axes.levels(up, levels)
        yield from axes.bottom_axis(across, places, HEIGHT - BOTTOM, panel.label)
        for one in panel.series:
            yield drawing.group(one, _intervals(drawing, one, across, up))
        for one in panel.series:
            yield drawing.group(one, _curve(drawing, one, across, up))

    return HEIGHT, marks()


def _intervals(drawing: Drawing, one: Series, across: Scale, up: Scale) -> Iterator[Markup]:
    """A band or bars, drawn below every curve."""
    ends = [(across(p.x), up(p.low), up(p.high)) for p in one.points]
    if drawing.panel.form == "points":
        yield from (tag("path", class_="err", d=path([(x, a), (x, b)])) for x, a, b in ends)
    elif any(low != high for _, low, high in ends):
        edge = [(x, high) for x, _, high in ends] + [(x, low) for x, low, _ in reversed(ends)]
        yield tag("path", class_="band", d=path(edge, closed=True))


def _curve(drawing: Drawing, one: Series, across: Scale, up: Scale) -> Iterator[Markup]:
    """A line through a marker at each value."""
    if len(one.points) > 1:
        line = path((across(p.x), up(p.mean)) for p in one.points)
        dash = DASHES[drawing.look(one) % len(DASHES)]
        yield tag("path", class_="line", d=line, stroke_dasharray=dash)
    for index, point in enumerate(one.points):
        yield drawing.mark(one, index, across(point.x), up(point.mean))


def _dots(drawing: Drawing) -> tuple[float, Iterator[Markup]]:
    """A dot with its interval in each row."""
    panel = drawing.panel
    points = [point for one in panel.series for point in one.points]
    ends = [end for p in points for end in (p.low, p.high)]
    left, bottom = axes.label_width(panel), TOP + ROW * len(panel.rows)
    across, ticks = value_scale(ends, left, WIDTH - RIGHT)

    def marks() -> Iterator[Markup]:
        yield from axes.row_labels(panel, left)
        yield from axes.bottom_axis(across, ticks, bottom, panel.label)
        for one in panel.series:
            yield drawing.group(one, _in_rows(drawing, one, across))

    return bottom + BOTTOM, marks()


def _in_rows(drawing: Drawing, one: Series, across: Scale) -> Iterator[Markup]:
    for index, point in enumerate(one.points):
        yield axes.interval(across, point)
        yield drawing.mark(one, index, across(point.mean), axes.row_middle(point))


def _stacked(drawing: Drawing) -> tuple[float, Iterator[Markup]]:
    """Each row's values one after the other, and the whole as a diamond."""
    panel = drawing.panel
    sums = dict.fromkeys(range(len(panel.rows)), 0.0)
    for point in (point for one in panel.series for point in one.points):
        sums[int(point.x)] += point.mean
    wholes = panel.whole.points if panel.whole else ()
    left, bottom = axes.label_width(panel), TOP + ROW * len(panel.rows)
    ends = [*sums.values(), *(p.high for p in wholes)]
    across, ticks = value_scale(ends, left, WIDTH - RIGHT, zero=True)

    def marks() -> Iterator[Markup]:
        yield axes.hatches(drawing.id)
        yield from axes.row_labels(panel, left)
        yield from axes.bottom_axis(across, ticks, bottom, panel.label)
        starts = dict.fromkeys(sums, 0.0)
        for one in panel.series:
            yield drawing.group(one, _bars(drawing, one, across, starts))
        if panel.whole:
            yield drawing.group(panel.whole, _in_rows(drawing, panel.whole, across))

    return bottom + BOTTOM, marks()


def _bars(
    drawing: Drawing, one: Series, across: Scale, starts: dict[int, float]
) -> Iterator[Markup]:
    """A series' part of each row's bar; moves the rows' starts on."""
    for index, point in enumerate(one.points):
        row = int(point.x)
        start, end = across(starts[row]), across(starts[row] + point.mean)
        starts[row] += point.mean
        box = {"x": start, "y": axes.row_middle(point) - 7, "width": end - start, "height": 14}
        yield tag("rect", class_="bar pt", data_p=drawing.lines[one.label] + index, **box)
        yield from axes.hatch_over(drawing.id, drawing.look(one) % len(GREYS), **box)


_DRAWN: Mapping[str, Callable[[Drawing], tuple[float, Iterator[Markup]]]] = {
    "lines": _curves,
    "points": _curves,
    "dots": _dots,
    "stacked": _stacked,
}
