"""What a figure shows: panels of series, with the runs behind each point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from lwspec.report.statistics.intervals import Estimate


@dataclass(frozen=True)
class Point:
    """A value with its interval, which is as wide as the value where there is none."""

    x: float
    """The place on the horizontal axis; the number of the row where a panel has rows."""
    mean: float
    low: float
    high: float
    jobs: tuple[str, ...]
    """Ids of the measurements behind it."""


@dataclass(frozen=True)
class Series:
    """Points under one name in the legend."""

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Panel:
    """Series over one pair of axes."""

    title: str
    label: str
    """Of the axis of values where the panel has rows, of the other axis where it has none."""
    series: Sequence[Series]
    form: Literal["lines", "points", "dots", "stacked"] = "lines"
    """Curves in bands; curves with bars; a dot in each row; values stacked in each row."""
    rows: tuple[str, ...] = ()
    """Of dots and stacked values, from the top."""
    whole: Series | None = None
    """Beside stacked values: the whole, which was measured apart."""
    doubling: bool = False
    """Whether the horizontal axis counts doublings."""


def point(x: float, estimate: Estimate, jobs: Iterable[str]) -> Point:
    """An estimate at a place."""
    mean = estimate.mean
    low = mean if estimate.low is None else estimate.low
    high = mean if estimate.high is None else estimate.high
    return Point(x, mean, low, high, tuple(dict.fromkeys(jobs)))


def doubles(series: Iterable[Series]) -> bool:
    """Whether the places are such that each is twice the one before."""
    places = sorted({point.x for one in series for point in one.points})
    pairs = list(zip(places, places[1:], strict=False))
    return len(pairs) > 1 and all(a > 0 and b == 2 * a for a, b in pairs)
