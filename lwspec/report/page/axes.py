"""What surrounds the marks of a panel: grids, ticks, labels, rows and hatches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from lwspec.report.figures.panel import Panel, Point
from lwspec.report.page.scale import Scale, tick_text
from lwspec.report.page.svg import path, tag

WIDTH, HEIGHT = 400.0, 260.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 14.0, 12.0, 44.0
ROW = 24.0
CHARACTER = 6.6
LONGEST_LABEL = 26
HATCHED = {1: "M0 6L6 0", 3: "M1 1h1.2M4 4h1.2"}
"""Of the fills of stacked bars, those with lines or dots over them."""


def levels(up: Scale, ticks: Sequence[float]) -> Iterator[Markup]:
    """Level lines of a vertical axis, with their numbers at its left."""
    for tick in ticks:
        y = up(tick)
        yield tag("path", class_="grid", d=path([(LEFT, y), (WIDTH - RIGHT, y)]))
        yield tag("text", tick_text(tick), x=LEFT - 8, y=y + 4, text_anchor="end")


def bottom_axis(across: Scale, ticks: Sequence[float], y: float, label: str) -> Iterator[Markup]:
    """The horizontal axis with its numbers and its label below."""
    yield tag("path", class_="axis", d=path([(across.start, y), (across.end, y)]))
    for tick in ticks:
        x = across(tick)
        yield tag("path", class_="axis", d=path([(x, y), (x, y + 4)]))
        yield tag("text", tick_text(tick), x=x, y=y + 18, text_anchor="middle")
    middle = (across.start + across.end) / 2
    yield tag("text", label, x=middle, y=y + 37, text_anchor="middle", class_="label")


def row_labels(panel: Panel, left: float) -> Iterator[Markup]:
    """A level line and a name for each row."""
    for place, row in enumerate(panel.rows):
        y = TOP + ROW * (place + 0.5)
        yield tag("path", class_="grid", d=path([(left, y), (WIDTH - RIGHT, y)]))
        yield tag("text", _cut(row), x=left - 8, y=y + 4, text_anchor="end")


def label_width(panel: Panel) -> float:
    """How far from the left the rows' names reach."""
    return 14 + CHARACTER * max(len(_cut(row)) for row in panel.rows)


def row_middle(point: Point) -> float:
    """The height at which a row's marks stand."""
    return TOP + ROW * (point.x + 0.5)


def interval(across: Scale, point: Point) -> Markup:
    """A bar along a row, from the interval's one end to the other."""
    y = row_middle(point)
    return tag("path", class_="err", d=path([(across(point.low), y), (across(point.high), y)]))


def hatches(prefix: str) -> Markup:
    """The patterns of hatched bars, for one SVG element."""
    patterns = [
        tag(
            "pattern",
            tag("path", class_="hatch", d=d),
            id=f"{prefix}-h{index}",
            width=6,
            height=6,
            patternUnits="userSpaceOnUse",
        )
        for index, d in HATCHED.items()
    ]
    return tag("defs", *patterns)


def hatch_over(prefix: str, index: int, **box: object) -> list[Markup]:
    """What lies over a bar of a hatched fill; nothing over the others."""
    if index not in HATCHED:
        return []
    return [tag("rect", fill=f"url(#{prefix}-h{index})", class_="over", **box)]


def _cut(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}\u2026"
