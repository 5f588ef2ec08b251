"""How much of what reading the text is worth to a receiver an arm recovers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
from numpy.typing import NDArray
from scipy import special

from lwspec.report.statistics.choose import Items
from lwspec.report.statistics.intervals import ONE_SEED, PAIRED_BOOTSTRAP, Estimate
from lwspec.report.statistics.spread import LEVEL, Spread
from lwspec.report.statistics.tests import BOOTSTRAP_DRAWS, resampled

ENDS = (0.5 - LEVEL / 2, 0.5 + LEVEL / 2)


def recovered_gap(arm: Items, none: Items, text: Items, *, seeded: bool) -> Estimate | None:
    """(arm - none) / (text - none): of the gap between no message and the whole text, the share.

    All three are taken over the items that they share. The interval is the percentile bootstrap's
    (Davison and Hinkley 1997, section 5.3): each draw resamples the items, the same for all three,
    and moves the arm's mean by its standard error over seeds times a draw of Student's t, since
    three resampled seeds would vary too little. None where the interval of text - none reaches
    down to 0: then there is no gap of which a share could be recovered.
    """
    scores = _shared([arm, none, text])
    n = scores[0].shape[1]
    if n < 2:
        return None
    per_item = numpy.stack([each.mean(axis=0) for each in scores], axis=1)
    of_arm, of_none, of_text = resampled(per_item, BOOTSTRAP_DRAWS).T
    if float(numpy.quantile(of_text - of_none, ENDS[0])) <= 0:
        return None
    means = per_item.mean(axis=0)
    share = float((means[0] - means[1]) / (means[2] - means[1]))
    seeds = scores[0].shape[0]
    if seeded and seeds < 2:
        return Estimate(share, None, None, ONE_SEED)
    if seeded:
        of_seeds = float(scores[0].mean(axis=1).std(ddof=1)) / seeds**0.5
        draws = numpy.random.default_rng(1).standard_t(seeds - 1, BOOTSTRAP_DRAWS)
        of_arm = of_arm + of_seeds * draws
    drawn = (of_arm - of_none) / (of_text - of_none)
    low, high = numpy.quantile(drawn, ENDS)
    # The draws of two or three seeds have no variance: the interval says how far they spread.
    error = float(high - low) / 2 / float(special.ndtri(ENDS[1]))
    spread = Spread(((error * error, n - 1),))
    return Estimate(share, float(low), float(high), PAIRED_BOOTSTRAP, spread)


def _shared(sides: Sequence[Items]) -> list[NDArray[numpy.float64]]:
    """Every side's scores [runs, items] of the items that all have, in one order."""
    there = [{name: place for place, name in enumerate(side.names)} for side in sides]
    names = [name for name in sides[0].names if all(name in places for places in there)]
    return [
        side.scores[:, [places[name] for name in names]]
        for side, places in zip(sides, there, strict=True)
    ]
