"""The figures of a run, written by the run itself: faults by kind, plans, jobs, attempts."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faults.schedule import WORKERS, Outcome, seed

from lwspec.engine.runs.evidence import machine

HEAD = """\
# Faults

Written by `make test-faults`. A fault is one kill, one spell of refused writes, one jump of the
clock, one full disk or one damaged file that did strike; those that a schedule held and no process
lived to meet are not counted. After each plan the run folders and the database were held against
what the jobs themselves had told the test: a promise is broken where a finished result is lost,
changed, recorded twice, recorded and not finished, or another number than the work makes, where a
database made anew from the run folders differs in any row of any table, where a command hangs or
ends in a traceback, or where the plan does not complete once all is quiet.
"""


def keep(family: str, outcomes: Sequence[Outcome], seconds: float) -> None:
    """Add what a family of plans went through to the folder that LWSPEC_FAULT_FIGURES names."""
    folder = os.environ.get("LWSPEC_FAULT_FIGURES")
    if not folder:
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    found = {
        "family": family,
        "plans": len(outcomes),
        "jobs": sum(each.jobs for each in outcomes),
        "struck": sum((each.struck for each in outcomes), Counter[str]()),
        "attempts": sum((each.attempts for each in outcomes), Counter[str]()),
        "broken": sum(len(each.problems) for each in outcomes),
        "seconds": seconds,
        "seed": seed(),
    }
    (Path(folder) / f"{family.replace(' ', '_').replace(':', '')}.json").write_text(
        json.dumps(found)
    )


def page(folder: Path) -> str:
    """The page of figures, of every family in a folder."""
    families = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    rows = [
        [
            each["family"],
            *(each[key] for key in ("plans", "jobs")),
            sum(each["attempts"].values()),
            sum(each["struck"].values()),
            each["broken"],
            f"{each['seconds']:.0f}",
        ]
        for each in families
    ]
    rows.append(["all", *(sum(int(row[n]) for row in rows) for n in range(1, 7))])
    titles = ["plans", "number", "jobs", "attempts", "faults", "promises broken", "seconds"]
    struck = sum((Counter(each["struck"]) for each in families), Counter[str]())
    attempts = sum((Counter(each["attempts"]) for each in families), Counter[str]())
    seeds = ", ".join(sorted({str(each["seed"]) for each in families}))
    here = machine()
    parts = [
        HEAD,
        _table(titles, rows),
        _table(["fault", "times"], sorted(struck.items(), key=lambda item: -item[1])),
        _table(["how attempts ended", "times"], sorted(attempts.items(), key=lambda i: -i[1])),
        f"Seed {seeds} (`LWSPEC_FAULT_SEED`), {WORKERS} plans at a time, on {here['cpu']}, "
        f"{here['cpu_count']} CPUs, Python {platform.python_version()}.\n",
    ]
    return "\n".join(parts)


def _table(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (titles, *rows)]
    lines.insert(1, "|" + "---|" * len(titles))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    Path(sys.argv[2]).write_text(page(Path(sys.argv[1])))
