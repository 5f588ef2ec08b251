"""Which interval and which test belong to what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy
from numpy.typing import NDArray

from lwspec.report.statistics.intervals import (
    DETERMINISTIC,
    ONE_SEED,
    Estimate,
    over_items,
    over_seeds,
    over_seeds_and_items,
)
from lwspec.report.statistics.spread import Spread, spread_of
from lwspec.report.statistics.tests import (
    LEAST_ITEMS,
    LEAST_SEEDS,
    Comparison,
    mcnemar,
    paired_bootstrap,
    paired_t,
    seeds_and_items,
    t_against,
)

Test = Literal["auto", "mcnemar", "bootstrap", "paired t", "seeds and items"]


@dataclass(frozen=True)
class Items:
    """Scores [measurements, items], and the items' names."""

    names: tuple[str, ...]
    scores: NDArray[numpy.float64]


@dataclass(frozen=True)
class Measured:
    """One metric of an arm on a task, as its finished runs recorded it."""

    values: tuple[float, ...]
    """Of each run."""
    seeds: tuple[int, ...] | None
    """Of each run; None where the arm has no seed and ran once."""
    items: Items | None
    """None where the metric is no mean over items."""
    share: bool
    """Whether an item scores 0 or 1."""
    passes: tuple[tuple[float, int], ...] = ()
    """Of a timing, for each run: the standard deviation over passes, and how many passes."""


def estimate(measured: Measured) -> Estimate:
    """The mean over runs with the interval that belongs to it."""
    if measured.items is not None and measured.seeds is not None:
        return over_seeds_and_items(measured.items.scores, share=measured.share)
    if measured.items is not None:
        return over_items(measured.items.scores[0], share=measured.share)
    mean = float(numpy.mean(measured.values))
    if measured.passes and len(measured.values) == 1:
        ((sd, n),) = measured.passes
        method = DETERMINISTIC if measured.seeds is None else ONE_SEED
        return Estimate(mean, None, None, method, Spread(((sd * sd / n, n - 1),)))
    if measured.seeds is not None:
        return over_seeds(measured.values)
    return Estimate(mean, None, None, DETERMINISTIC)


def compare(one: Measured, other: Measured, test: Test) -> Comparison | str:
    """One less the other by the test that was asked for, or the reason why it does not apply."""
    if not one.values or not other.values:
        return "one side has no value"
    few = [len(side.seeds) for side in (one, other) if side.seeds is not None]
    if few and min(few) < LEAST_SEEDS:
        return f"too few seeds for a test: {min(few)} of at least {LEAST_SEEDS}"
    if one.items is None or other.items is None:
        return _without_items(one, other, test)
    first, second = common(one.items, other.items)
    if first.shape[1] < 2:
        return "the two have no items in common"
    kind = _auto(one, other) if test == "auto" else test
    if kind == "seeds and items":
        return seeds_and_items(first, second) if few else "both run once: there are no seeds"
    if kind == "paired t":
        return _paired_t(one, other)
    if few:
        return f"{kind} compares single runs; these have seeds"
    if kind == "bootstrap" and first.shape[1] < LEAST_ITEMS:
        return f"too few items for a bootstrap: {first.shape[1]} of at least {LEAST_ITEMS}"
    if kind == "bootstrap":
        return paired_bootstrap(first[0], second[0])
    return mcnemar(first[0], second[0]) if one.share else "McNemar's test is for right and wrong"


def difference(one: Measured, other: Measured, factor: float) -> tuple[float, Spread] | None:
    """The difference over common items in another unit, and its spread; None without items."""
    if one.items is None or other.items is None:
        return None
    first, second = common(one.items, other.items)
    if first.shape[1] < 2:
        return None
    gap = float(first.mean() - second.mean())
    return gap * factor, spread_of([first, second]).scaled(factor * factor)


def alike(one: Measured, other: Measured) -> int | None:
    """How many common items both score alike in all of their runs; None where one differs."""
    if one.items is None or other.items is None:
        return None
    first, second = common(one.items, other.items)
    same = bool((first == first[0]).all() and (second == first[0]).all())
    return first.shape[1] if same and first.shape[1] > 1 else None


def common(one: Items, other: Items) -> tuple[NDArray[numpy.float64], NDArray[numpy.float64]]:
    """Both arms' scores of the items that they share, in one order."""
    if one.names == other.names:
        return one.scores, other.scores
    places: Mapping[str, int] = {name: place for place, name in enumerate(other.names)}
    shared = [(place, places[name]) for place, name in enumerate(one.names) if name in places]
    first, second = zip(*shared, strict=True) if shared else ((), ())
    return one.scores[:, list(first)], other.scores[:, list(second)]


def _auto(one: Measured, other: Measured) -> Test:
    if one.seeds is not None or other.seeds is not None:
        return "seeds and items"
    return "mcnemar" if one.share else "bootstrap"


def _without_items(one: Measured, other: Measured, test: Test) -> Comparison | str:
    """Only seeds can be tested where the metric is no mean over items."""
    if test not in ("auto", "paired t"):
        return f"the metric has no scores of items, which {test} needs"
    if one.seeds is None and other.seeds is None:
        return "each ran once, and the metric has no scores of items"
    if other.seeds is None:
        return t_against(one.values, other.values[0])
    if one.seeds is None:
        return t_against(other.values, one.values[0]).reversed()
    return _paired_t(one, other)


def _paired_t(one: Measured, other: Measured) -> Comparison | str:
    if one.seeds is None or other.seeds is None:
        return "paired t needs seeds on both sides"
    values = dict(zip(other.seeds, other.values, strict=True))
    pairs = [
        (value, values[seed])
        for seed, value in zip(one.seeds, one.values, strict=True)
        if seed in values
    ]
    if len(pairs) < LEAST_SEEDS:
        return f"too few seeds that both have: {len(pairs)} of at least {LEAST_SEEDS}"
    return paired_t(*zip(*pairs, strict=True))
