"""Statistics of cells: what a mean is worth. Pure functions over numbers that runs recorded."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

ONE_SEED = "one seed"
"""The method of an estimate without an interval, for want of seeds."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval, or without one where the records support none."""

    mean: float
    low: float | None
    high: float | None
    method: str


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean over seeds with Student's t interval; one seed has no interval.

    It speaks of new seeds on the same test items.
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Estimate(mean, None, None, ONE_SEED)
    error = statistics.stdev(values) / math.sqrt(len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return Estimate(mean, mean - half, mean + half, "t over seeds")


def over_seeds_and_items(shares: Sequence[float], n: int) -> Estimate:
    """Mean over seeds of shares of n test items, with an interval for new seeds and new items.

    The variance is s^2/k between the k seeds plus p(1-p)/n of the items that they share; the
    degrees of freedom are Satterthwaite's (1946, Biometrics Bulletin 2, 110). A spread of zero
    between seeds leaves the items' part, never an interval without width.
    """
    mean, k = statistics.fmean(shares), len(shares)
    if k < 2:
        return Estimate(mean, None, None, ONE_SEED)
    seeds, items = statistics.variance(shares) / k, mean * (1 - mean) / n
    whole = seeds + items
    if n < 2:
        return over_seeds(shares)
    if whole == 0:
        return over_items(mean, n)
    freedom = whole**2 / (seeds**2 / (k - 1) + items**2 / (n - 1))
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(whole)
    return Estimate(mean, max(0.0, mean - half), min(1.0, mean + half), "t over seeds and items")


def over_items(share: float, n: int) -> Estimate:
    """A share of n test items with Wilson's score interval (Wilson 1927, J. ASA 22, 209).

    It speaks of new test items for the same, deterministic, system.
    """
    z = float(stats.norm.ppf(0.975))
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Estimate(share, middle - half, middle + half, f"Wilson over {n} items")
