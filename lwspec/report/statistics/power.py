"""What a plan can show before it has run: the least difference that its seeds and items detect."""

from __future__ import annotations

from scipy import special

from lwspec.report.statistics.spread import LEVEL, Spread

POWER = 0.8


def minimum_detectable_difference(
    seeds: int, items: int | None, *, seed_sd: float, item_sd: float
) -> float:
    """The difference between two arms of `seeds` seeds that a 5% test finds in 80% of cases.

    `seed_sd` is of an arm's mean between seeds, `item_sd` of the arms' difference between items.
    Where the items are not counted yet, they are taken as so many that they add nothing. The
    standard error times the sum of the two quantiles (Bloom 1995, Evaluation Review 19, 547), each
    part of the variance with its own degrees of freedom.
    """
    arm = (seed_sd**2 / seeds, seeds - 1.0)
    within = ((item_sd**2 / items, max(1.0, items - 1.0)),) if items is not None else ()
    spread = Spread((arm, arm, *within))
    freedom = 2 * (seeds - 1)
    return spread.half(LEVEL) + float(special.stdtrit(freedom, POWER)) * spread.error
