"""What a job will cost: measured where its like was run, else modelled from its work.

Hours are counted in the spec's unit: one GPU of the kind that the budget names, or one process
of a CPU.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from lwspec.engine.plan.cost import ASSUMED

SPREAD = 3.0
"""p90 over p50 of a modelled price: how far the model is trusted."""

BENCHED_SPREAD = 2.0
"""The same, where the machine's rates were measured."""

OUTGROWN = 2.0
"""p90 over what a job had spent when its allowance ended."""


@dataclass(frozen=True)
class Price:
    """Hours of one job, median and 90th percentile, and where the figure comes from."""

    p50_hours: float
    p90_hours: float
    source: Literal["measured", "modelled"]


@dataclass(frozen=True)
class Measurement:
    """One finished attempt: the modelled seconds of what it did, and the seconds it took."""

    key: str
    unit: str
    """The budget's unit that this hardware is: prices are not carried over to another."""
    modelled_s: float
    device_s: float


def unit_of(gpu: str | None) -> str | None:
    """The budget's unit that a GPU by its full name is; None for one that has none."""
    if gpu is None:
        return "cpu"
    return next((unit for unit in ASSUMED if unit in gpu.lower()), None)


def price(
    key: str,
    modelled_s: float,
    unit: str,
    history: Iterable[Measurement],
    benched_s: float | None = None,
) -> Price:
    """The price of a job of so many modelled seconds, scaled by what its like has taken.

    Where nothing like it was run it is modelled: from the rates that were measured (`benched_s`),
    or else from those assumed.
    """
    ratios = sorted(
        past.device_s / past.modelled_s for past in history if past.key == key and past.unit == unit
    )
    if not ratios:
        hours = (modelled_s if benched_s is None else benched_s) / 3600
        spread = SPREAD if benched_s is None else BENCHED_SPREAD
        return Price(hours, hours * spread, "modelled")
    p90 = ratios[-1] if len(ratios) < 10 else statistics.quantiles(ratios, n=10)[-1]
    hours = modelled_s * statistics.median(ratios) / 3600
    return Price(hours, max(hours * 1.2, modelled_s * p90 / 3600), "measured")


def above(price: Price, spent_hours: float) -> Price:
    """The price of a job that has once spent so much and was stopped before its end."""
    return Price(
        max(price.p50_hours, spent_hours),
        max(price.p90_hours, OUTGROWN * spent_hours),
        price.source,
    )
