"""How true modelled prices are: each kind of job, task and setting is predicted from the others.

    python bench/prices.py RESULTS_DB [DOCUMENT]

Of the first attempts that finished, those alike in everything but their seed are one group. Each
group is held out in turn: its price is learnt from the other groups of its kind and step, as
`lwspec plan` learns, and set against the median of what it took. Writes a section of DOCUMENT where
one is given.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from section import replace_section
from sqlalchemy import select

from lwspec.engine.job import canonical, price_key
from lwspec.engine.plan.price import Measurement, price, unit_of
from lwspec.engine.store import tables as db
from lwspec.engine.store.store import Store

LEAST_S = 1.0
"""Shorter jobs are their start."""


def groups(store: Store) -> dict[tuple[str, str], list[Measurement]]:
    """Measurements by key and by what the job is beside its seed."""
    found: dict[tuple[str, str], list[Measurement]] = defaultdict(list)
    table, jobs = db.attempts.c, db.jobs.c
    with store.read() as connection:
        rows = connection.execute(
            select(db.attempts, jobs.kind, jobs.step, jobs.settings, jobs.inputs)
            .join(db.jobs, table.job == jobs.id)
            .where(table.number == 1, table.outcome == "finished")
        )
        for row in rows:
            unit = unit_of(row.evidence.get("gpu"))
            if not row.modelled_s or row.device_s < LEAST_S or unit is None:
                continue
            beside = row.evidence.get("side_by_side", 1) > 1
            key = price_key(row.kind, row.step, beside=beside)
            others = {name: value for name, value in row.settings.items() if name != "seed"}
            inputs = {role: id for role, id in row.inputs.items() if role != "fit"}
            measured = Measurement(key, unit, row.modelled_s, row.device_s)
            found[key, canonical([others, inputs])].append(measured)
    return found


def errors(found: dict[tuple[str, str], list[Measurement]]) -> dict[str, list[float]]:
    """By key: predicted over measured of each group that has others to learn from, less one."""
    made: dict[str, list[float]] = defaultdict(list)
    for (key, mine), group in found.items():
        past = [m for (k, other), ms in found.items() if k == key and other != mine for m in ms]
        if past:
            took = statistics.median(each.device_s for each in group)
            modelled = statistics.median(each.modelled_s for each in group)
            predicted = price(key, modelled, group[0].unit, past)
            made[key].append(3600 * predicted.p50_hours / took - 1)
    return made


def table(made: dict[str, list[float]]) -> Sequence[str]:
    """A line for each kind and step."""
    lines = [
        "| kind and step | groups | median error | within 20% | worst |",
        "|---|---|---|---|---|",
    ]
    for key, found in sorted(made.items()):
        sizes = [abs(each) for each in found]
        within = sum(size <= 0.2 for size in sizes)
        lines.append(
            f"| {key} | {len(found)} | {statistics.median(sizes):.0%} | {within} of {len(found)} | "
            f"{max(found, key=abs):+.0%} |"
        )
    return lines


def main() -> None:
    """Hold out, print, and write the section."""
    lines = table(errors(groups(Store(Path(sys.argv[1]), shared=True))))
    print("\n".join(lines))
    if len(sys.argv) > 2:
        replace_section(Path(sys.argv[2]), "Prices of what was held out", "\n".join(lines))


if __name__ == "__main__":
    main()
