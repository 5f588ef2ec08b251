"""Axes: where a value lies on one, where its ticks stand, and how numbers are written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MOST_TICKS = 6
MOST_PLACES = 9
PAD = 0.05
SLACK = 0.9
"""Steps may be this much shorter than even ones: a few more ticks, but rounder."""
LEAST_GAP = 34.0
"""Pixels between the middles of two ticks' numbers."""
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_WHOLE_STEPS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """From values to pixels, evenly or by doublings."""

    low: float
    high: float
    start: float
    end: float
    doubling: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        low, high, at = self.low, self.high, value
        if self.doubling:
            low, high, at = math.log2(low), math.log2(high), math.log2(value)
        return self.start + (at - low) / (high - low) * (self.end - self.start)


def value_scale(
    values: Iterable[float], start: float, end: float, *, zero: bool = False, whole: bool = False
) -> tuple[Scale, list[float]]:
    """An even scale with room around the values, or from zero, and its ticks, whole or not."""
    found = list(values)
    low, high = (0.0 if zero else min(found)), max(found)
    room = (high - low) * PAD or abs(high) * PAD or 1.0
    low, high = (0.0 if zero else low - room), high + room
    step = _step(low, high, whole)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    ticks = [round(index * step, 12) for index in range(first, last + 1)]
    return Scale(low, high, start, end), ticks


def place_scale(
    places: Sequence[float], start: float, end: float, *, doubling: bool
) -> tuple[Scale, list[float]]:
    """A scale of the places at which was measured, with ticks there where they are few."""
    found = sorted(set(places))
    few = len(found) <= MOST_PLACES
    if doubling:
        room = max((found[-1] / found[0]) ** PAD, 1.1)
        scale = Scale(found[0] / room, found[-1] * room, start, end, doubling=True)
        powers = _powers(scale)
        exact = few and all(math.log2(place).is_integer() for place in found)
        return scale, _apart(found if exact or len(powers) < 2 else powers, scale)
    if few:
        room = (found[-1] - found[0]) * PAD or 1.0
        scale = Scale(found[0] - room, found[-1] + room, start, end)
        return scale, _apart(found, scale)
    return value_scale(found, start, end, whole=all(place.is_integer() for place in found))


def _apart(ticks: Sequence[float], scale: Scale) -> list[float]:
    """The ticks without those whose numbers would touch the one before."""
    kept: list[float] = []
    for tick in ticks:
        if not kept or scale(tick) - scale(kept[-1]) >= LEAST_GAP:
            kept.append(tick)
    return kept


def _step(low: float, high: float, whole: bool) -> float:
    rough = max((high - low) / MOST_TICKS, 1.0 if whole else 0.0)
    power = 10.0 ** math.floor(math.log10(rough))
    steps = _WHOLE_STEPS if whole else _STEPS
    return next(step * power for step in steps if step * power >= rough * SLACK)


def _powers(scale: Scale) -> list[float]:
    first, last = math.ceil(math.log2(scale.low)), math.floor(math.log2(scale.high))
    every = max(1, math.ceil((last - first + 1) / MOST_TICKS))
    return [2.0**power for power in range(first, last + 1, every)]


def tick_text(value: float) -> str:
    """A tick's number, as short as it can be said."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def number_text(value: float) -> str:
    """A measured number with about four digits."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.1f}"
    return f"{value:.2f}" if size >= 1 else f"{value:.4f}"
