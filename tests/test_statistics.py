"""Intervals and tests against published examples, other libraries, and simulation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy
import pandas
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.contingency_tables import mcnemar as exact_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from lwspec.report.statistics.choose import Items, Measured, alike, compare, difference, estimate
from lwspec.report.statistics.intervals import over_items, over_seeds, over_seeds_and_items, wilson
from lwspec.report.statistics.power import minimum_detectable_difference
from lwspec.report.statistics.spread import Spread, spread_of
from lwspec.report.statistics.tests import (
    Comparison,
    holm,
    mcnemar,
    mid_p,
    most_apart,
    p_alike,
    paired_bootstrap,
    paired_t,
    seeds_and_items,
    t_against,
)


def shares(seeds: int, items: int, level: float = 0.8, seed: int = 0) -> numpy.ndarray:
    """Right and wrong [seeds, items] of an arm whose seeds differ by 3.3 points."""
    source = numpy.random.default_rng(seed)
    ease = source.random(items)
    levels = source.normal(level, 0.033, seeds)
    return (ease[None, :] < levels[:, None]).astype(float)


@pytest.mark.parametrize(("right", "n"), [(0, 20), (10, 20), (19, 20), (700, 872), (872, 872)])
def test_the_interval_over_items_is_wilsons(right: int, n: int) -> None:
    expected = proportion_confint(right, n, 0.05, method="wilson")
    found = over_items(numpy.array([1.0] * right + [0.0] * (n - right)), share=True)
    assert (found.low, found.high) == pytest.approx(expected)
    assert wilson(right / n, n) == found


def test_intervals_of_means_are_students() -> None:
    values = [0.71, 0.68, 0.74, 0.70, 0.69]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    for found in (over_seeds(values), over_items(numpy.array(values), share=False)):
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_one_seed_has_no_interval() -> None:
    for found in (over_seeds([0.5]), over_seeds_and_items(shares(1, 100), share=True)):
        assert found.low is None
        assert found.high is None


def test_the_variance_between_seeds_is_that_of_the_two_way_layout() -> None:
    scores = numpy.random.default_rng(3).normal(size=(4, 12)) + numpy.arange(4)[:, None]
    frame = pandas.DataFrame(
        [(s, i, scores[s, i]) for s in range(4) for i in range(12)], columns=["seed", "item", "y"]
    )
    table = anova_lm(ols("y ~ C(seed) + C(item)", frame).fit())
    squares = table["sum_sq"] / table["df"]
    (items, items_freedom), (seeds, seeds_freedom) = spread_of([scores]).parts
    assert items == pytest.approx((squares["C(item)"] - squares["Residual"]) / 48)
    assert seeds == pytest.approx(squares["C(seed)"] / 48)
    assert (items_freedom, seeds_freedom) == (11, 3)


def test_a_spread_of_one_part_is_students_t() -> None:
    spread = Spread(((0.04, 4.0),))
    assert spread.half(0.95) == pytest.approx(0.2 * stats.t.ppf(0.975, 4))
    assert spread.p_value(0.5) == pytest.approx(2 * stats.t.sf(2.5, 4), rel=1e-6)
    assert spread.p_value(0.0) == 1.0
    assert Spread(((0.0, 4.0),)).p_value(0.1) is None


def test_a_spread_of_two_parts_lies_between_howe_and_satterthwaite() -> None:
    spread = Spread(((0.04, 2.0), (0.01, 500.0)))
    howe = math.hypot(0.2 * stats.t.ppf(0.975, 2), 0.1 * stats.t.ppf(0.975, 500))
    freedom = 0.05**2 / (0.04**2 / 2 + 0.01**2 / 500)
    satterthwaite = math.sqrt(0.05) * stats.t.ppf(0.975, freedom)
    assert spread.half(0.95) == pytest.approx((howe + satterthwaite) / 2)
    assert spread.p_value(spread.half(0.95)) == pytest.approx(0.05, rel=1e-6)


def test_seeds_that_agree_still_leave_the_items_uncertain() -> None:
    one = shares(1, 500)
    found = over_seeds_and_items(numpy.repeat(one, 3, axis=0), share=True)
    alone = over_items(one[0], share=True)
    assert found.high - found.low == pytest.approx(alone.high - alone.low, rel=0.02)
    right = over_seeds_and_items(numpy.ones((3, 500)), share=True)
    assert (right.low, right.high) == pytest.approx((wilson(1.0, 500).low, 1.0))


@pytest.mark.parametrize("seeds", [3, 5, 7])
@pytest.mark.parametrize("value", [0.1, 0.7, 1 / 3])
def test_what_never_differs_is_not_tested_however_its_sums_are_rounded(
    seeds: int, value: float
) -> None:
    assert paired_t([value] * seeds, [0.0] * seeds).p is None
    assert t_against([value] * seeds, 0.01).p is None
    same, other = numpy.full((seeds, 40), value), numpy.full((seeds, 40), 0.01)
    assert seeds_and_items(same, other).p is None
    assert paired_bootstrap(same[0], other[0]).p is None


def test_items_that_all_score_alike_bound_how_far_two_arms_are_apart() -> None:
    scores = shares(1, 200)
    one = Measured((0.8,), None, Items(tuple(map(str, range(200))), scores), True)
    three = replace(one, seeds=(1, 2, 3), items=replace(one.items, scores=scores.repeat(3, 0)))
    assert alike(one, three) == 200
    other = scores.copy()
    other[0, 7] = 1 - other[0, 7]
    assert alike(one, replace(one, items=replace(one.items, scores=other))) is None
    assert p_alike(200, most_apart(200)) == pytest.approx(0.05)
    source = numpy.random.default_rng(0)
    never = (source.random((4000, 40)) < 0.06).sum(axis=1) == 0  # arms 6 points apart, 40 items
    assert never.mean() == pytest.approx(p_alike(40, 0.06), abs=0.015)


def test_an_interval_of_a_share_stays_within_the_possible() -> None:
    scores = numpy.zeros((3, 40))
    scores[:, :2] = 1.0
    scores[2, :30] = 1.0
    found = over_seeds_and_items(scores, share=True)
    assert 0.0 < found.low < found.mean < found.high < 1.0


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_interval_covers_new_seeds_and_new_items(seeds: int) -> None:
    covered = 0
    for repetition in range(600):
        found = over_seeds_and_items(shares(seeds, 500, seed=repetition), share=True)
        covered += found.low <= 0.8 <= found.high
    assert 0.925 <= covered / 600 <= 0.975


def pair(both: int, first: int, second: int, neither: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    one = [1.0] * both + [1.0] * first + [0.0] * second + [0.0] * neither
    other = [1.0] * both + [0.0] * first + [1.0] * second + [0.0] * neither
    return numpy.array(one), numpy.array(other)


def test_mcnemar_against_a_published_example_and_statsmodels() -> None:
    """Fagerland et al. 2013, table 1: airway hyper-responsiveness, 1 against 7; mid-p 0.039."""
    found = mcnemar(*pair(1, 1, 7, 12))
    assert found.p == pytest.approx(0.0391, abs=5e-5)
    assert found.difference == pytest.approx(-6 / 21)
    assert found.effect == pytest.approx(7 / 8 - 0.5)
    for b, c in ((1, 7), (12, 30), (600, 700), (2000, 2100)):
        exact = exact_mcnemar([[50, b], [c, 50]], exact=True).pvalue
        assert mid_p(b, c) == pytest.approx(exact - stats.binom.pmf(min(b, c), b + c, 0.5))
    assert mid_p(0, 0) == 1.0
    assert mid_p(5, 5) == pytest.approx(1 - stats.binom.pmf(5, 10, 0.5) / 2)


def test_paired_t_and_its_relatives_against_scipy() -> None:
    one, other = [0.71, 0.68, 0.74, 0.70, 0.69], [0.66, 0.67, 0.70, 0.71, 0.64]
    expected = stats.ttest_rel(one, other)
    found = paired_t(one, other)
    ends = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high))
    gaps = numpy.array(one) - numpy.array(other)
    assert found.effect == pytest.approx(gaps.mean() / gaps.std(ddof=1))
    against = t_against(one, 0.65)
    assert against.p == pytest.approx(stats.ttest_1samp(one, 0.65).pvalue, rel=1e-6)
    assert against.reversed().difference == -against.difference


def test_the_bootstrap_agrees_with_students_t_where_scores_are_normal() -> None:
    source = numpy.random.default_rng(1)
    one = source.normal(0.1, 1.0, 400)
    other = source.normal(0.0, 1.0, 400)
    found, expected = paired_bootstrap(one, other), stats.ttest_rel(one, other)
    assert found.p == pytest.approx(expected.pvalue, abs=0.02)
    ends = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high), abs=0.01)
    assert paired_bootstrap(one, other) == found


def test_holm_is_statsmodels() -> None:
    ps = [0.01, 0.04, 0.03, 0.005, 0.9, 0.04]
    assert holm(ps) == pytest.approx(multipletests(ps, method="holm")[1])
    assert holm([]) == []


def test_seeds_and_items_reduces_to_a_t_test_over_items_where_seeds_agree() -> None:
    one, other = shares(1, 300, 0.8, 1), shares(1, 300, 0.7, 2)
    repeated = [numpy.repeat(arm, 4, axis=0) for arm in (one, other)]
    found = seeds_and_items(*repeated)
    expected = stats.ttest_rel(one[0], other[0])
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    assert found.n == "4 seeds, 300 items"
    assert found.effect is None


def measured(scores: numpy.ndarray, *, seeded: bool = True, names: str = "abc") -> Measured:
    items = Items(tuple(f"{names}{i}" for i in range(scores.shape[1])), scores)
    seeds = tuple(range(scores.shape[0])) if seeded else None
    return Measured(tuple(scores.mean(axis=1)), seeds, items, True)


def test_the_test_that_belongs_to_what_was_measured() -> None:
    seeded, single = measured(shares(3, 50)), measured(shares(1, 50, seed=5), seeded=False)
    names = {
        "auto": (seeded, seeded, "t over seeds and items"),
        "mcnemar": (single, single, "McNemar, mid-p"),
        "bootstrap": (single, single, "paired bootstrap over items"),
        "paired t": (seeded, seeded, "paired t over seeds"),
    }
    for test, (one, other, name) in names.items():
        found = compare(one, other, test)
        assert isinstance(found, Comparison)
        assert found.test == name
    auto = compare(single, single, "auto")
    assert isinstance(auto, Comparison)
    assert auto.test == "McNemar, mid-p"


def test_what_cannot_be_tested_says_why() -> None:
    two, single = measured(shares(2, 50)), measured(shares(1, 50), seeded=False)
    assert compare(two, single, "auto") == "too few seeds for a test: 2 of at least 3"
    assert "have seeds" in str(compare(measured(shares(3, 50)), single, "mcnemar"))
    assert "no seeds" in str(compare(single, single, "seeds and items"))
    elsewhere = measured(shares(1, 50), seeded=False, names="xyz")
    assert "no items in common" in str(compare(single, elsewhere, "auto"))
    assert compare(Measured((), None, None, True), single, "auto") == "one side has no value"
    text = measured(numpy.linspace(0, 1, 29)[None], seeded=False)
    assert compare(text, text, "bootstrap") == "too few items for a bootstrap: 29 of at least 30"
    bare = Measured((0.5,), None, None, False)
    assert "no scores of items" in str(compare(bare, bare, "auto"))


def test_only_common_items_are_compared_in_one_order() -> None:
    one = Measured((0.5,), None, Items(("a", "b", "c"), numpy.array([[1.0, 0.0, 1.0]])), True)
    other = Measured((0.5,), None, Items(("c", "a", "z"), numpy.array([[0.0, 1.0, 1.0]])), True)
    found = compare(one, other, "auto")
    assert isinstance(found, Comparison)
    assert found.n == "2 items"
    assert found.difference == pytest.approx(0.5)
    made = difference(one, other, 100.0)
    assert made is not None
    assert made[0] == pytest.approx(50.0)


def test_a_timing_is_as_uncertain_as_its_passes() -> None:
    timed = Measured((10.0,), None, None, False, ((2.0, 25),))
    assert estimate(timed).spread.error == pytest.approx(2.0 / 5)
    seeds = Measured((10.0, 11.0, 12.0), (1, 2, 3), None, False, ((2.0, 25),) * 3)
    assert estimate(seeds) == over_seeds([10.0, 11.0, 12.0])


def test_the_detectable_difference_is_found_in_four_of_five_cases() -> None:
    """Simulated: two arms of 5 seeds that differ by it, with the spread that it assumes."""
    gap = minimum_detectable_difference(5, 500, seed_sd=0.033, item_sd=0.5)
    source = numpy.random.default_rng(0)
    found = 0
    for _ in range(800):
        arms = [
            level + source.normal(0, 0.033, (5, 1)) + source.normal(0, 0.5**1.5, (1, 500))
            for level in (gap, 0.0)
        ]
        p = seeds_and_items(*arms).p
        found += p is not None and p < 0.05
    assert 0.75 <= found / 800 <= 0.85
    assert minimum_detectable_difference(5, None, seed_sd=0.033, item_sd=0.5) < gap
