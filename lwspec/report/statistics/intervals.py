"""Means with their 95% intervals, over seeds, over test items, or over both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy
from numpy.typing import NDArray
from scipy import stats

Scores = NDArray[numpy.float64]
"""Of an arm on a task: [seeds, items], or [items] where it has no seed."""

LEVEL = 0.95

ONE_SEED = "one seed"
"""The method of an estimate without an interval, for want of seeds."""

SEEDS_AND_ITEMS = "t over seeds and items"
SEEDS = "t over seeds"
ITEMS = "t over items"
WILSON = "Wilson"
DETERMINISTIC = "deterministic"


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval, or without one where the records support none."""

    mean: float
    low: float | None
    high: float | None
    method: str
    error: float | None = None
    """The standard error of the mean."""
    freedom: float | None = None
    """Degrees of freedom of the standard error."""

    def scaled(self, factor: float) -> Estimate:
        """The same in another unit."""
        low = None if self.low is None else self.low * factor
        high = None if self.high is None else self.high * factor
        error = None if self.error is None else self.error * factor
        return replace(self, mean=self.mean * factor, low=low, high=high, error=error)


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean over seeds with Student's t interval; one seed has no interval.

    It speaks of new seeds on the same test items.
    """
    mean, k = float(numpy.mean(values)), len(values)
    if k < 2:
        return Estimate(mean, None, None, ONE_SEED)
    return _interval(mean, float(numpy.std(values, ddof=1)) / math.sqrt(k), k - 1, SEEDS)


def over_seeds_and_items(scores: Scores, *, share: bool) -> Estimate:
    """Mean of `scores` [seeds, items] with an interval for new seeds and new items.

    Seeds and items are crossed random effects: see `variance`. A share stays within 0 and 1, and
    one that all seeds got wholly right or wrong is as uncertain as one run over the same items.
    """
    mean, (seeds, _) = float(scores.mean()), scores.shape
    if seeds < 2:
        return Estimate(mean, None, None, ONE_SEED)
    error2, freedom = variance([scores])
    if error2 == 0.0:
        return replace(over_items(scores[0], share=share), method=SEEDS_AND_ITEMS)
    found = _interval(mean, math.sqrt(error2), freedom, SEEDS_AND_ITEMS)
    if not share or found.low is None or found.high is None:
        return found
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def over_items(scores: Scores, *, share: bool) -> Estimate:
    """Mean of `scores` [items]: a share with Wilson's interval, anything else with Student's t.

    It speaks of new test items for the same, deterministic, system.
    """
    mean, n = float(scores.mean()), scores.size
    if share:
        return wilson(mean, n)
    if n < 2:
        return Estimate(mean, None, None, DETERMINISTIC)
    return _interval(mean, float(scores.std(ddof=1)) / math.sqrt(n), n - 1, ITEMS)


def wilson(share: float, n: int) -> Estimate:
    """A share of n test items with Wilson's score interval (Wilson 1927, J. ASA 22, 209)."""
    z = float(stats.norm.ppf(0.5 + LEVEL / 2))
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    error = math.sqrt(share * (1 - share) / n)
    return Estimate(share, middle - half, middle + half, f"{WILSON} over {n} items", error, n - 1)


def variance(arms: Sequence[Scores]) -> tuple[float, float]:
    """The variance of one arm's mean, or of two arms' difference, and its degrees of freedom.

    Each arm is [seeds, items] over the same items, with one seed where it is deterministic. The
    mean over seeds varies from item to item, and an arm's mean from seed to seed; what is left of
    both, the residual of the two-way layout without repetition, stands in each and is taken out
    once (Searle, Casella and McCulloch 1992, Variance Components, section 4.5). The degrees of
    freedom are Satterthwaite's (1946, Biometrics Bulletin 2, 110) over the parts that were added.
    """
    n = arms[0].shape[1]
    signs = (1.0, -1.0)
    per_item = sum(
        (sign * arm.mean(axis=0) for sign, arm in zip(signs, arms, strict=False)), numpy.zeros(n)
    )
    items = float(per_item.var(ddof=1)) / n if n > 1 else 0.0
    parts = [(items, n - 1)] if n > 1 else []
    residual = 0.0
    for arm in arms:
        k = arm.shape[0]
        if k > 1:
            parts.append((float(arm.mean(axis=1).var(ddof=1)) / k, k - 1))
            left = arm - arm.mean(axis=1, keepdims=True) - arm.mean(axis=0, keepdims=True)
            left = left + arm.mean()
            residual += float((left**2).sum()) / max((k - 1) * (n - 1), 1) / (k * n)
    seeds = sum(part for part, _ in parts) - items
    whole = max(items + seeds - residual, items, seeds)
    weight = sum(part**2 / freedom for part, freedom in parts)
    return whole, (whole**2 / weight if weight else math.inf)


def _interval(mean: float, error: float, freedom: float, method: str) -> Estimate:
    half = float(stats.t.ppf(0.5 + LEVEL / 2, freedom)) * error
    return Estimate(mean, mean - half, mean + half, method, error, freedom)
