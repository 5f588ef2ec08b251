"""Whether two arms differ: tests on the same items, each with its name, n and effect size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy
from scipy import special

from lwspec.report.statistics.intervals import Scores
from lwspec.report.statistics.spread import LEVEL, ROUNDING, Spread, spread_of

LEAST_SEEDS = 3
"""Fewer seeds than this leave a variance between seeds that nobody should test with."""

BOOTSTRAP_DRAWS = 10_000
LEAST_ITEMS = 30
"""Of fewer items, resampled means vary too little: at 20 a 5% test rejects 6.8% of true nulls."""


@dataclass(frozen=True)
class Comparison:
    """One arm less another: the difference with its 95% interval, and the test's p-value."""

    test: str
    n: str
    """What the test rests on: `872 items`, `3 seeds, 872 items`."""
    difference: float
    low: float
    high: float
    p: float | None
    """None where there is no spread to hold the difference against: no test then."""
    effect: float | None
    """None where the spread is zero."""
    effect_name: str

    def scaled(self, factor: float) -> Comparison:
        """The difference in another unit."""
        ends = [value * factor for value in (self.difference, self.low, self.high)]
        return replace(self, difference=ends[0], low=ends[1], high=ends[2])

    def reversed(self) -> Comparison:
        """The other less the one."""
        effect = None if self.effect is None else -self.effect
        return replace(
            self, difference=-self.difference, low=-self.high, high=-self.low, effect=effect
        )


def mcnemar(one: Scores, other: Scores) -> Comparison:
    """McNemar's test of two single runs' right and wrong [items], with the mid-p value.

    Of b and c items that only one of them has right, mid-p is twice the binomial tail up to the
    smaller less the smaller's own probability (Fagerland, Lydersen and Laake 2013, BMC Medical
    Research Methodology 13:91, equation 4). The effect is Cohen's g, the larger share less 0.5.
    """
    b, c = int(((one == 1) & (other == 0)).sum()), int(((one == 0) & (other == 1)).sum())
    p = mid_p(b, c)
    effect = max(b, c) / (b + c) - 0.5 if b + c else None
    difference, half = float((one - other).mean()), 0.0
    if one.size > 1:
        half = Spread(((float((one - other).var(ddof=1)) / one.size, one.size - 1),)).half(LEVEL)
    low, high = difference - half, difference + half
    return Comparison(
        "McNemar, mid-p", f"{one.size} items", difference, low, high, p, effect, "Cohen's g"
    )


def mid_p(b: int, c: int) -> float:
    """The two-sided mid-p value of b against c discordant pairs."""
    few, all_ = min(b, c), b + c
    if all_ == 0:
        return 1.0
    ways = special.gammaln(all_ + 1) - special.gammaln(few + 1) - special.gammaln(all_ - few + 1)
    point = float(numpy.exp(ways - all_ * numpy.log(2)))
    if b == c:
        return 1.0 - point / 2
    return 2 * float(special.bdtr(few, all_, 0.5)) - point


def p_alike(n: int, margin: float) -> float:
    """The p-value of two arms that score n items alike, for their means to lie `margin` apart.

    Of such arms, with scores between 0 and 1, an item differs with at least that probability:
    that none of n does is at most this likely.
    """
    return max(0.0, 1.0 - margin) ** n


def most_apart(n: int) -> float:
    """How far apart the means of two arms may lie that score n items alike, at 95% confidence."""
    return 1.0 - float((1.0 - LEVEL) ** (1.0 / n))


def paired_bootstrap(one: Scores, other: Scores) -> Comparison:
    """Two single runs' scores [items] compared over resampled items.

    p is the share of draws whose mean lies as far from the observed difference as that lies from
    zero, the observation itself counted (Davison and Hinkley 1997, section 4.2). Draws are seeded,
    so that the same scores give the same p.
    """
    gaps = one - other
    difference, n = float(gaps.mean()), gaps.size
    means = resampled(gaps[:, None], BOOTSTRAP_DRAWS)[:, 0]
    far = int((numpy.abs(means - difference) >= abs(difference) - 1e-12).sum())
    low, high = numpy.quantile(means, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    effect = _in_units_of(float(gaps.std(ddof=1)) if n > 1 else 0.0, difference)
    return Comparison(
        "paired bootstrap over items",
        f"{n} items",
        difference,
        float(low),
        float(high),
        None if effect is None else (far + 1) / (BOOTSTRAP_DRAWS + 1),
        effect,
        "Cohen's d of items",
    )


def resampled(scores: Scores, draws: int) -> Scores:
    """Means [draws, columns] of the rows of `scores` [items, columns], items drawn anew each time.

    Columns are drawn together; seeded, so that the same scores give the same draws.
    """
    source, n = numpy.random.default_rng(0), len(scores)
    values, counts = numpy.unique(scores, axis=0, return_counts=True)
    return numpy.concatenate(
        [
            source.multinomial(n, counts / n, size=part) @ values / n
            for part in _parts(draws, len(values))
        ]
    )


def paired_t(one: Sequence[float], other: Sequence[float]) -> Comparison:
    """Student's paired t over seeds that both arms have, in the same order."""
    assert len(one) == len(other) >= LEAST_SEEDS
    return _t_over_seeds(numpy.subtract(one, other), "paired t over seeds")


def t_against(values: Sequence[float], fixed: float) -> Comparison:
    """Student's t of an arm's seeds against a number without a seed."""
    assert len(values) >= LEAST_SEEDS
    return _t_over_seeds(numpy.subtract(values, fixed), "t over seeds, against one run")


def seeds_and_items(one: Scores, other: Scores) -> Comparison:
    """Two arms' scores [seeds, items] over the same items, with new seeds and new items in mind.

    The difference of the means against its spread (`spread_of`); an arm without a seed has one
    row. The effect is Cohen's d over the pooled spread between seeds.
    """
    assert all(arm.shape[0] == 1 or arm.shape[0] >= LEAST_SEEDS for arm in (one, other))
    difference, spread = float(one.mean() - other.mean()), spread_of([one, other])
    half, seeded = spread.half(LEVEL), [arm for arm in (one, other) if arm.shape[0] > 1]
    between = float(numpy.mean([arm.mean(axis=1).var(ddof=1) for arm in seeded])) ** 0.5
    seeds = " and ".join(dict.fromkeys(str(arm.shape[0]) for arm in seeded))
    return Comparison(
        "t over seeds and items",
        f"{seeds} seeds, {one.shape[1]} items",
        difference,
        difference - half,
        difference + half,
        spread.p_value(difference),
        _in_units_of(between, difference),
        "Cohen's d of seeds",
    )


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (Holm 1979, Scandinavian Journal of Statistics 6, 65)."""
    order = sorted(range(len(ps)), key=lambda index: ps[index])
    adjusted, most = [0.0] * len(ps), 0.0
    for rank, index in enumerate(order):
        most = max(most, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = most
    return adjusted


def _t_over_seeds(gaps: Scores, test: str) -> Comparison:
    difference, sd = float(gaps.mean()), float(gaps.std(ddof=1))
    spread = Spread(((sd * sd / gaps.size, gaps.size - 1),))
    half = spread.half(LEVEL)
    return Comparison(
        test,
        f"{gaps.size} seeds",
        difference,
        difference - half,
        difference + half,
        spread.p_value(difference),
        _in_units_of(sd, difference),
        "Cohen's d of seeds",
    )


def _in_units_of(sd: float, difference: float) -> float | None:
    """Cohen's d; None where nothing differs by more than floating-point arithmetic does."""
    return difference / sd if sd > ROUNDING * max(1.0, abs(difference)) else None


def _parts(draws: int, values: int) -> list[int]:
    """Draws in parts of at most ten million counts."""
    most = max(1, 10_000_000 // values)
    return [most] * (draws // most) + ([draws % most] if draws % most else [])
