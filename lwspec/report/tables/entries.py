"""Tables filled from the records: each entry's number, the runs behind it, and its test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lwspec.engine.metrics import METRICS
from lwspec.report.numbers import Numbers
from lwspec.report.query import Group, Results
from lwspec.report.statistics.intervals import Estimate
from lwspec.report.statistics.tests import Comparison, holm
from lwspec.report.tables.layout import Layout, Place, Slot

NOT_RUN, PLANNED, UNDEFINED, OUTSIDE, NO_GAP = "not run", "plan only", "n/a", "--", "no gap"
"""What stands in an entry without a number; the caption says what it means."""

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Entry:
    """One entry of a table: its estimate in the metric's unit, and the runs behind it."""

    group: Group
    metric: str
    estimate: Estimate | None
    finished: int
    planned: int
    subset: bool
    n: int | None
    samples: int | None
    """Training rows of the fits behind it; None where nothing was trained."""
    passes: int | None
    """Timed passes behind a latency; None where the entry is none."""
    hardware: str | None
    """What a latency was timed on."""
    missing: tuple[str, ...]
    """Ids of the measurements that have not finished, or lack the metric that others have."""
    bounds: tuple[Group, ...] = ()
    """What it lies between, where it is a share of a gap."""

    @property
    def groups(self) -> tuple[Group, ...]:
        """Whose measurements stand behind it."""
        return (self.group, *self.bounds)

    @property
    def text(self) -> str:
        """The number as tables and macros print it, or why there is none."""
        if self.estimate is None:
            return self._why_empty
        return METRICS[self.metric].text(self.estimate.mean)

    @property
    def _why_empty(self) -> str:
        if any(group.plan_only for group in self.groups):
            return PLANNED
        if self.missing:
            return NOT_RUN
        return NO_GAP if self.bounds else UNDEFINED

    @property
    def some(self) -> str:
        """How many of its runs it rests on, where that is only some."""
        partly = self.estimate is not None and self.missing
        return f"{self.finished} of {self.planned}" if partly else ""

    @property
    def interval(self) -> tuple[str, str] | None:
        """The interval's ends as they are printed."""
        if self.estimate is None or self.estimate.low is None or self.estimate.high is None:
            return None
        return f"{self.estimate.low:.1f}", f"{self.estimate.high:.1f}"

    @property
    def seeds(self) -> str:
        """How many of the planned seeds stand behind it; `--` where seeds change nothing."""
        seeded = self.group.cells[0].seeded
        return f"{self.finished} of {self.planned}" if seeded else OUTSIDE


@dataclass(frozen=True)
class Tested:
    """One entry of a table held against another."""

    place: Place
    against: Place
    comparison: Comparison | None
    why: str
    """Why there is no test; empty where there is one."""
    adjusted: float | None
    """The p-value after Holm's correction over the table's tests."""

    @property
    def significant(self) -> bool:
        """Whether the two differ beyond chance."""
        return self.adjusted is not None and self.adjusted < SIGNIFICANT


@dataclass(frozen=True)
class TableData:
    """A table's layout with its entries and tests."""

    layout: Layout
    entries: Mapping[Place, Entry]
    tests: Mapping[Place, Tested]

    def better(self, place: Place) -> bool:
        """Whether a test, corrected, says that an entry is better than what it is held against."""
        tested = self.tests.get(place)
        if tested is None or not tested.significant or tested.comparison is None:
            return False
        gain = tested.comparison.difference
        return gain < 0 if METRICS[self.entries[place].metric].lower else gain > 0


def table_data(layout: Layout, numbers: Numbers) -> TableData:
    """Fill every entry of a table from the records, and test what the spec asks for."""
    entries = {place: table_entry(slot, numbers) for place, slot in layout.slots.items()}
    return TableData(layout, entries, _tests(layout, numbers))


def table_entry(slot: Slot, numbers: Numbers) -> Entry:
    """One number a measurement; an arm without a seed has one for all seeds."""
    group, found = slot.group, numbers.found(slot.group)
    facts = found.outputs[0].facts if found.outputs else {}
    told = [output for output in found.outputs if slot.metric in output.metrics]
    unbound = [job for bound in slot.bounds for job in numbers.found(bound).missing]
    gap = METRICS[slot.metric].made == "held against bounds"
    silent = [output.job for output in found.outputs if told and output not in told]
    return Entry(
        group,
        slot.metric,
        numbers.recovered(group, slot.bounds) if gap else numbers.estimate(group, slot.metric),
        len(found.outputs) - len(silent),
        len(found.outputs) + len(found.missing),
        any(output.facts.get("subset") for output in found.outputs),
        facts.get("n"),
        _samples(group, numbers.results),
        facts.get("passes"),
        facts.get("hardware"),
        () if group.plan_only else (*found.missing, *silent, *unbound),
        slot.bounds,
    )


def _samples(group: Group, results: Results) -> int | None:
    epochs = [epoch for cell in group.cells for epoch in results.epochs(cell)]
    return int(epochs[0].facts["samples"]) if epochs else None


def _tests(layout: Layout, numbers: Numbers) -> dict[Place, Tested]:
    """Every comparison of the table, corrected together by Holm's method."""
    if layout.table.compare is None:
        return {}
    made: dict[Place, Comparison | str] = {}
    for place, other in layout.against.items():
        one, against = layout.slots[place], layout.slots[other]
        made[place] = numbers.compare(
            one.group, against.group, one.metric, layout.table.compare.test
        )
    ps = {
        place: found.p
        for place, found in made.items()
        if isinstance(found, Comparison) and found.p is not None
    }
    adjusted = dict(zip(ps, holm(list(ps.values())), strict=True))
    return {
        place: Tested(
            place,
            layout.against[place],
            None if isinstance(found, str) else found,
            found if isinstance(found, str) else ("" if place in ps else "no spread to test with"),
            adjusted.get(place),
        )
        for place, found in made.items()
    }


def seeds_behind(entries: Sequence[Entry | None]) -> str:
    """How many of the planned seeds stand behind a row."""
    return ", ".join(dict.fromkeys(entry.seeds for entry in entries if entry is not None))
