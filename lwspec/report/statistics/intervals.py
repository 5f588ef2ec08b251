"""Means with their 95% intervals: over seeds, over test items, or over both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray
from scipy import special

from lwspec.report.statistics.spread import LEVEL, Spread, spread_of

Scores = NDArray[numpy.float64]
"""Of an arm on a task: [seeds, items], or [items] of one run."""

ONE_SEED = "one seed"
SEEDS_AND_ITEMS = "t over seeds and items"
SEEDS = "t over seeds"
ITEMS = "t over items"
WILSON = "Wilson over items"
DETERMINISTIC = "deterministic"
PAIRED_BOOTSTRAP = "paired bootstrap over items, t over seeds"
COUNTED = "counted"
"""How an interval was made, or why there is none."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval, or without one where the records support none."""

    mean: float
    low: float | None
    high: float | None
    method: str
    spread: Spread = Spread(())
    """What the mean's variance is made of; empty where it is not known."""

    def scaled(self, factor: float) -> Estimate:
        """The same in another unit."""
        low = None if self.low is None else self.low * factor
        high = None if self.high is None else self.high * factor
        return Estimate(
            self.mean * factor, low, high, self.method, self.spread.scaled(factor * factor)
        )


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean over seeds with Student's t interval; one seed has no interval.

    It speaks of new seeds on the same test items.
    """
    mean, k = float(numpy.mean(values)), len(values)
    if k < 2:
        return Estimate(mean, None, None, ONE_SEED)
    return _symmetric(mean, Spread(((float(numpy.var(values, ddof=1)) / k, k - 1),)), SEEDS)


def over_seeds_and_items(scores: Scores, *, share: bool) -> Estimate:
    """Mean of `scores` [seeds, items] with an interval for new seeds and new items.

    A share's interval is made on the scale of its logit, so that it stays within 0 and 1. A share
    that all seeds got wholly right or wrong is as uncertain as one run over the same items.
    """
    mean, seeds = float(scores.mean()), scores.shape[0]
    if seeds < 2:
        return Estimate(mean, None, None, ONE_SEED)
    spread = spread_of([scores])
    if not share:
        return _symmetric(mean, spread, SEEDS_AND_ITEMS)
    if mean in (0.0, 1.0):
        sure = wilson(mean, scores.shape[1])
        return Estimate(mean, sure.low, sure.high, SEEDS_AND_ITEMS)
    slope, logit = mean * (1 - mean), math.log(mean / (1 - mean))
    half = spread.half(LEVEL) / slope
    low, high = special.expit([logit - half, logit + half])
    return Estimate(mean, float(low), float(high), SEEDS_AND_ITEMS, spread)


def over_items(scores: Scores, *, share: bool) -> Estimate:
    """Mean of `scores` [items]: a share with Wilson's interval, anything else with Student's t.

    It speaks of new test items for the same, deterministic, system.
    """
    mean, n = float(scores.mean()), scores.size
    if share:
        return wilson(mean, n)
    if n < 2:
        return Estimate(mean, None, None, DETERMINISTIC)
    return _symmetric(mean, Spread(((float(scores.var(ddof=1)) / n, n - 1),)), ITEMS)


def wilson(share: float, n: int) -> Estimate:
    """A share of n test items with Wilson's score interval (Wilson 1927, J. ASA 22, 209)."""
    z = float(special.ndtri(0.5 + LEVEL / 2))
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    spread = Spread(((share * (1 - share) / n, max(1, n - 1)),))
    return Estimate(share, middle - half, middle + half, WILSON, spread)


def _symmetric(mean: float, spread: Spread, method: str) -> Estimate:
    half = spread.half(LEVEL)
    return Estimate(mean, mean - half, mean + half, method, spread)
