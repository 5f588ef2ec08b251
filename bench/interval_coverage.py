"""How often intervals cover and tests reject a true null, simulated: writes docs/statistics.md.

    python bench/interval_coverage.py docs/statistics.md

Seeded, so that it gives the same page twice.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
from numpy.typing import NDArray
from scipy import special

from lwspec.report.statistics.intervals import over_items, over_seeds, over_seeds_and_items
from lwspec.report.statistics.power import minimum_detectable_difference
from lwspec.report.statistics.tests import (
    Comparison,
    mcnemar,
    paired_bootstrap,
    paired_t,
    seeds_and_items,
    t_against,
)

Scores = NDArray[numpy.float64]
REPETITIONS = 4000
ITEMS = 500
SHARES = (0.5, 0.8, 0.95)
SEED_SDS = (0.0, 0.01, 0.033, 0.06)
SHARED = (0.0, 0.5, 1.0)
SD = {0.5: 0.033, 0.8: 0.033, 0.95: 0.01}
"""Between seeds, where tests are tried."""
SEEDS = (3, 5, 10)

HEAD = f"""\
# How far the report's statistics can be trusted

Written by `make statistics`: each cell simulated {REPETITIONS:,} times over {ITEMS} test items.
An arm's seeds are right on each item or wrong. Its accuracy differs from seed to seed with the
standard deviation given, and its seeds share their easy and hard items wholly, half or not at all.
A cell of {REPETITIONS:,} repetitions is itself uncertain by 0.7 points at 95%.
"""


def draw(
    source: numpy.random.Generator,
    seeds: int,
    share: float,
    sd: float,
    rho: float,
    ease: Scores | None = None,
) -> Scores:
    """Right and wrong [seeds, items]: a probit model whose mean is `share`."""
    quantile = float(special.ndtri(share))
    spread = sd / (math.exp(-quantile * quantile / 2) / math.sqrt(2 * math.pi))
    level = quantile * math.sqrt(1 + spread * spread) + spread * source.standard_normal((seeds, 1))
    if ease is None:
        ease = source.standard_normal((1, ITEMS))
    own = math.sqrt(1 - rho) * source.standard_normal((seeds, ITEMS))
    return (level + math.sqrt(rho) * ease + own > 0).astype(float)


def covered(source: numpy.random.Generator, seeds: int, share: float, sd: float, rho: float) -> str:
    """The share of 95% intervals that hold the true accuracy, in per cent."""
    hits = 0
    for _ in range(REPETITIONS):
        found = over_seeds_and_items(draw(source, seeds, share, sd, rho), share=True)
        assert found.low is not None and found.high is not None
        hits += found.low <= share <= found.high
    return f"{100 * hits / REPETITIONS:.1f}"


def coverage(source: numpy.random.Generator) -> Iterator[str]:
    """The table of coverage."""
    yield "\n## A 95% interval over seeds and test items\n"
    yield "Per cent of intervals that hold the true accuracy; between 93 and 97 is what we ask.\n"
    yield "| accuracy | seed sd (points) | items shared | 3 seeds | 5 seeds | 10 seeds |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: |"
    for share in SHARES:
        for sd in SEED_SDS:
            for rho in SHARED:
                if share == 0.95 and sd == 0.06:
                    continue  # seeds beyond 100%: no such arm
                cells = [covered(source, seeds, share, sd, rho) for seeds in SEEDS]
                yield f"| {100 * share:g} | {100 * sd:g} | {rho:g} | {' | '.join(cells)} |"
    yield "\nBeside it, at 80% with a seed sd of 3.3 points and half of the items' ease shared:\n"
    yield "| method | 3 seeds | 5 seeds | 10 seeds |"
    yield "| --- | ---: | ---: | ---: |"
    for name, method in (
        ("this one", over_seeds_and_items_ends),
        ("plain hierarchical bootstrap", hierarchical_bootstrap),
        ("Student's t over seeds alone", seeds_alone),
    ):
        cells = [compared(source, seeds, method) for seeds in SEEDS]
        yield f"| {name} | {' | '.join(cells)} |"


Method = Callable[[Scores, numpy.random.Generator], tuple[float, float]]


def compared(source: numpy.random.Generator, seeds: int, method: Method) -> str:
    """Coverage of a method at the common setting."""
    hits, repetitions = 0, 1000
    for _ in range(repetitions):
        low, high = method(draw(source, seeds, 0.8, 0.033, 0.5), source)
        hits += low <= 0.8 <= high
    return f"{100 * hits / repetitions:.1f}"


def over_seeds_and_items_ends(scores: Scores, _: numpy.random.Generator) -> tuple[float, float]:
    """The report's interval."""
    found = over_seeds_and_items(scores, share=True)
    assert found.low is not None and found.high is not None
    return found.low, found.high


def hierarchical_bootstrap(scores: Scores, source: numpy.random.Generator) -> tuple[float, float]:
    """Percentiles of means over resampled seeds and items."""
    seeds, items = scores.shape
    draws = 1000
    by_seed = source.multinomial(seeds, [1 / seeds] * seeds, size=draws) / seeds
    by_item = source.multinomial(items, [1 / items] * items, size=draws) / items
    means = ((by_seed @ scores) * by_item).sum(axis=1)
    low, high = numpy.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def seeds_alone(scores: Scores, _: numpy.random.Generator) -> tuple[float, float]:
    """Student's t over seeds, which says nothing of new items."""
    found = over_seeds(scores.mean(axis=1).tolist())
    assert found.low is not None and found.high is not None
    return found.low, found.high


def rejected(make: Callable[[], Comparison]) -> str:
    """The share of tests at 5% that reject a true null, in per cent."""
    ps = [make().p for _ in range(REPETITIONS)]
    return f"{100 * sum(p is not None and p < 0.05 for p in ps) / REPETITIONS:.1f}"


def nulls(source: numpy.random.Generator) -> Iterator[str]:
    """The table of rejections where two arms are equally good."""
    yield "\n## Tests at 5% of two arms that are equally good\n"
    yield "Per cent of true nulls rejected; at most 6 is what we ask. The seed sd is 3.3 points, at"
    yield "an accuracy of 95% one point.\n"
    yield "| test | accuracy 50 | accuracy 80 | accuracy 95 |"
    yield "| --- | ---: | ---: | ---: |"

    def row(name: str, make: Callable[[float], Comparison]) -> str:
        def at(share: float) -> str:
            return rejected(lambda: make(share))

        return f"| {name} | {' | '.join(map(at, SHARES))} |"

    def single(share: float) -> Scores:
        return draw(source, 2, share, 0.0, 0.5)

    yield row("McNemar, mid-p", lambda share: mcnemar(*single(share)))
    yield row("paired bootstrap over items", lambda share: paired_bootstrap(*single(share)))
    for seeds in SEEDS:

        def paired(share: float, seeds: int = seeds) -> Comparison:
            ease = source.standard_normal((1, ITEMS))  # it speaks of new seeds on these items
            arms = [draw(source, seeds, share, SD[share], 0.5, ease) for _ in range(2)]
            return paired_t(*(arm.mean(axis=1).tolist() for arm in arms))

        def against(share: float, seeds: int = seeds) -> Comparison:
            arm = draw(source, seeds, share, SD[share], 0.0)
            return t_against(arm.mean(axis=1).tolist(), share)

        def both(share: float, seeds: int = seeds) -> Comparison:
            return seeds_and_items(*(draw(source, seeds, share, SD[share], 0.5) for _ in range(2)))

        yield row(f"paired t over {seeds} seeds", paired)
        yield row(f"t over {seeds} seeds, against one run", against)
        yield row(f"t over {seeds} seeds and items", both)
    skewed = rejected(lambda: t_against(draw(source, 3, 0.95, 0.02, 0).mean(axis=1).tolist(), 0.95))
    yield "\nAt 95% with a seed sd of 2 points, seeds are skewed, and the t test of 3 seeds against"
    yield f"one run rejects {skewed}%. The report uses it only for metrics without scores of items."


def power(source: numpy.random.Generator) -> Iterator[str]:
    """How often the least detectable difference is found."""
    yield "\n## The least difference that a plan detects\n"
    yield "It is to be found in 80% of cases: two arms that differ by it, seed sd 3.3 points, item"
    yield "sd of the difference 50 points.\n"
    yield "| seeds | items | least difference (points) | found (%) |"
    yield "| ---: | ---: | ---: | ---: |"
    for seeds in SEEDS:
        for items in (500, 2000):
            gap = minimum_detectable_difference(seeds, items, seed_sd=0.033, item_sd=0.5)

            def make(seeds: int = seeds, items: int = items, gap: float = gap) -> Comparison:
                arms = [
                    level
                    + source.normal(0, 0.033, (seeds, 1))
                    + source.normal(0, 0.5**1.5, (1, items))
                    for level in (gap, 0.0)
                ]
                return seeds_and_items(*arms)

            yield f"| {seeds} | {items:,} | {100 * gap:.1f} | {rejected(make)} |"


def wilson_coverage(source: numpy.random.Generator) -> Iterator[str]:
    """Coverage of the interval of an arm that runs once."""
    yield "\n## A 95% interval over the test items of an arm that runs once (Wilson)\n"
    yield "| accuracy | per cent that hold it |"
    yield "| ---: | ---: |"
    for share in (*SHARES, 0.99):
        hits = 0
        for _ in range(REPETITIONS):
            found = over_items(draw(source, 1, share, 0.0, 0.0)[0], share=True)
            assert found.low is not None and found.high is not None
            hits += found.low <= share <= found.high
        yield f"| {100 * share:g} | {100 * hits / REPETITIONS:.1f} |"


def main() -> None:
    """Write the page."""
    source = numpy.random.default_rng(2026)
    lines = [*coverage(source), *wilson_coverage(source), *nulls(source), *power(source)]
    Path(sys.argv[1]).write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
