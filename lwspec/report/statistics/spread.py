"""What the variance of a mean over seeds and items is made of, and what may be said with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray
from scipy import special

LEVEL = 0.95
LEAST_P = 1e-15
ROUNDING = 1e-12
"""Of the larger of 1 and a difference: a spread this small is floating-point arithmetic's."""


@dataclass(frozen=True)
class Spread:
    """Independent parts of a mean's variance, each with its degrees of freedom."""

    parts: tuple[tuple[float, float], ...]

    @property
    def error(self) -> float:
        """The standard error."""
        return math.sqrt(sum(variance for variance, _ in self.parts))

    def half(self, level: float) -> float:
        """Half the width of an interval of this level.

        The mean of two: each part's own t half-width, added in quadrature (Howe 1974, J. ASA 69,
        789), and the whole's with the degrees of freedom of Satterthwaite (1946, Biometrics
        Bulletin 2, 110). With 3 seeds the first covers up to 97.7% where it should 95, the second
        down to 92.2; their mean covers between 94 and 97, whatever the parts are to each other.
        """
        return self._half(1 - level)

    def _half(self, p: float) -> float:
        parts = [(variance, freedom) for variance, freedom in self.parts if variance > 0]
        if not parts:
            return 0.0
        apart = sum(v * float(special.stdtrit(freedom, p / 2)) ** 2 for v, freedom in parts)
        freedom = self.error**4 / sum(v * v / freedom for v, freedom in parts)
        together = -float(special.stdtrit(freedom, p / 2)) * self.error
        return (math.sqrt(apart) + together) / 2

    def p_value(self, difference: float) -> float | None:
        """The two-sided p-value of a difference from zero: where the interval would touch it.

        None where there is no spread, against which nothing can be held.
        """
        if self.error <= ROUNDING * max(1.0, abs(difference)):
            return None
        far = abs(difference)
        if far >= self._half(LEAST_P):
            return LEAST_P
        if far <= self._half(1.0):
            return 1.0
        from scipy import optimize  # half a second that planning need not wait for

        found = optimize.brentq(lambda p: self._half(p) - far, LEAST_P, 1.0, xtol=1e-15)
        return float(found)

    def scaled(self, factor: float) -> Spread:
        """Every variance multiplied."""
        return Spread(tuple((variance * factor, freedom) for variance, freedom in self.parts))

    def __add__(self, other: Spread) -> Spread:
        """Of a sum or difference of independent means."""
        return Spread(self.parts + other.parts)


def spread_of(arms: Sequence[NDArray[numpy.float64]]) -> Spread:
    """Of one arm's mean, or of the difference of two arms' means over the same items.

    Each arm is [seeds, items], of one seed where it is deterministic. Seeds and items are crossed
    random effects (Searle, Casella and McCulloch 1992, Variance Components, section 4.5): an arm's
    mean varies from seed to seed, which holds the residual of the two-way layout, and the mean
    over seeds varies from item to item, out of which that residual is taken.
    """
    assert 1 <= len(arms) <= 2
    n = arms[0].shape[1]
    per_item = arms[0].mean(axis=0) - (arms[1].mean(axis=0) if len(arms) == 2 else 0.0)
    seeded = [arm for arm in arms if arm.shape[0] > 1]
    parts = [(float(arm.mean(axis=1).var(ddof=1)) / len(arm), len(arm) - 1.0) for arm in seeded]
    if n > 1:
        items = float(per_item.var(ddof=1)) / n - sum(map(_residual, seeded))
        parts.insert(0, (max(0.0, items), n - 1.0))
    return Spread(tuple(parts))


def _residual(arm: NDArray[numpy.float64]) -> float:
    """What neither seed nor item explains, in the variance of the mean of an arm [seeds, items]."""
    k, n = arm.shape
    rows, columns = arm.mean(axis=1, keepdims=True), arm.mean(axis=0, keepdims=True)
    left = arm - rows - columns + arm.mean()
    return float(numpy.square(left).sum() / ((k - 1) * (n - 1)) / (n * k))
