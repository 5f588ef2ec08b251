"""Intervals against published examples, other libraries and simulation."""

from __future__ import annotations

import random

import pytest
from scipy import stats

from lwspec.report.stats import over_items, over_seeds, over_seeds_and_items


@pytest.mark.parametrize(("right", "n"), [(0, 20), (10, 20), (19, 20), (700, 872), (872, 872)])
def test_the_interval_over_items_is_wilsons(right: int, n: int) -> None:
    expected = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    found = over_items(right / n, n)
    assert found.low == pytest.approx(expected.low)
    assert found.high == pytest.approx(expected.high)


def test_the_interval_over_seeds_is_students() -> None:
    values = [0.71, 0.68, 0.74, 0.70, 0.69]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = over_seeds(values)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_one_seed_has_no_interval() -> None:
    for found in (over_seeds([0.5]), over_seeds_and_items([0.5], 100)):
        assert found.low is None
        assert found.high is None


def test_seeds_that_agree_still_leave_the_items_uncertain() -> None:
    found = over_seeds_and_items([0.8, 0.8, 0.8], 500)
    assert found.high - found.low == pytest.approx(2 * 1.965 * (0.16 / 500) ** 0.5, rel=0.01)
    everything_right = over_seeds_and_items([1.0, 1.0, 1.0], 500)
    assert everything_right.low < 1.0


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_interval_covers_new_seeds_and_new_items(seeds: int) -> None:
    """Simulated: accuracy 0.8, seed sd 3.3 points, 500 shared items, 600 repetitions."""
    source = random.Random(seeds)
    covered = 0
    for _ in range(600):
        ease = [source.random() for _ in range(500)]
        shares = []
        for _ in range(seeds):
            level = source.gauss(0.8, 0.033)
            shares.append(sum(e < level for e in ease) / 500)
        found = over_seeds_and_items(shares, 500)
        covered += found.low <= 0.8 <= found.high
    assert covered / 600 >= 0.93
