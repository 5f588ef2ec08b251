"""The runs behind shown numbers: each set of runs once, with everything that shows it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lwspec.engine.job import canonical
from lwspec.engine.plan.plan import Plan


@dataclass
class RunSet:
    """Runs that stand behind one number or several."""

    id: str
    jobs: tuple[str, ...]
    missing: tuple[str, ...]
    """Runs that were planned behind it and have not finished."""
    home: str
    """The table, figure or claim that shows it first."""
    shown: list[str] = field(default_factory=list)
    """What shows it, as a reader would name it; the first is its name."""


class Behind:
    """Collects the sets of runs in the order in which the page shows them."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._sets: dict[str, RunSet] = {}

    def link(self, jobs: Iterable[str], home: str, shown: str, missing: Iterable[str] = ()) -> str:
        """The id of the page's entry for a set of runs behind `shown`, a number of `home`."""
        key = (tuple(dict.fromkeys(jobs)), tuple(dict.fromkeys(missing)))
        id = f"runs-{hashlib.sha256(canonical(key).encode()).hexdigest()[:12]}"
        found = self._sets.setdefault(id, RunSet(id, *key, home))
        name = f"{home}: {shown}"
        if name not in found.shown:
            found.shown.append(name)
        return id

    def by_home(self) -> dict[str, list[RunSet]]:
        """The sets under the table, figure or claim that shows each first."""
        homes: dict[str, list[RunSet]] = {}
        for each in self._sets.values():
            homes.setdefault(each.home, []).append(each)
        return homes

    def jobs(self) -> Sequence[str]:
        """Every run behind a number, those that were measured before those that they were made of.

        The first come as the page shows them, the others as the plan has them.
        """
        jobs = self._plan.expansion.jobs
        direct = dict.fromkeys(job for each in self._sets.values() for job in each.jobs)
        sources = set(self._sources(direct))
        return [*direct, *(job for job in jobs if job in sources and job not in direct)]

    def _sources(self, of: Iterable[str]) -> Iterator[str]:
        jobs, seen, open_ = self._plan.expansion.jobs, set[str](), list(of)
        while open_:
            for source in jobs[open_.pop()].inputs.values():
                if source not in seen:
                    seen.add(source)
                    open_.append(source)
                    yield source
