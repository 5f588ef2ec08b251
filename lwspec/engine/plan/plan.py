"""The plan: what a spec asks for, what of it is done, what the rest costs, and what changed."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lwspec.engine.arm import ArmDeclaration
from lwspec.engine.job import Job, canonical, price_key
from lwspec.engine.plan.cost import ASSUMED, Facts, Machine, copied_bytes, work_of
from lwspec.engine.plan.expand import Expansion
from lwspec.engine.plan.locate import Located
from lwspec.engine.plan.machines import Benched
from lwspec.engine.plan.pack import Pack, in_order, longest_first, packs, start_shares
from lwspec.engine.plan.price import OUTGROWN, Price, above, price
from lwspec.engine.plan.records import Records
from lwspec.engine.runs.life import Held
from lwspec.engine.runs.states import IN_HAND, State, states
from lwspec.engine.shapes import UNKNOWN, host_gb
from lwspec.engine.spec.loaded import LoadedSpec

ALLOWANCE_OVER_P90 = 2.0
LEAST_ALLOWANCE_S = 300.0
FREE_ALLOWANCE_S = 4 * 3600.0
"""Of a job that costs nothing of the budget, and has no price to judge it by."""


@dataclass(frozen=True)
class Row:
    """One experiment of the plan: its jobs, those still to run, and their price."""

    experiment: str
    group: str
    """The heading that it stands under: its own name, or one that it shares with others."""
    arms: tuple[str, ...]
    tasks: tuple[str, ...]
    seeds: int
    """How often a cell is run: once where no seed can change any of its arms."""
    points: int
    jobs: int
    """Those that no experiment before it needs."""
    to_run: int
    p50_hours: float
    p90_hours: float
    sources: tuple[str, ...]
    """Where the prices of what it is first to ask for come from; empty where it owes nothing."""
    declared_hours: float | None
    """What the spec allots to the experiment."""
    plan_only: bool


@dataclass(frozen=True)
class Plan:
    """A spec expanded and held against the records."""

    loaded: LoadedSpec
    expansion: Expansion
    states: Mapping[str, State]
    owed: Mapping[str, tuple[str, ...]]
    """Outputs that are missing, by job; only jobs that owe any."""
    modelled_s: Mapping[str, float]
    prices: Mapping[str, Price]
    rows: tuple[Row, ...]
    packs: tuple[Pack, ...]
    """In the order in which they are begun here, where they can."""
    spent_hours: float
    host_gb: float
    """Host memory that one process needs at most."""
    to_run: tuple[str, ...]
    """The jobs that owe outputs and are asked for by more than plan-only experiments."""
    outgrown_s: Mapping[str, float]
    """What each job had spent that once ended at its allowance."""
    granted_s: Mapping[str, float]
    """What each job in SLURM's hands may still spend, those of earlier plans of the spec too."""
    benched: Benched | None
    """The rates by which prices are modelled, where they were measured."""

    @property
    def p50_hours(self) -> float:
        """What the jobs to run should cost."""
        return sum(row.p50_hours for row in self.rows if not row.plan_only)

    @property
    def p90_hours(self) -> float:
        """What is reserved for the jobs to run."""
        return sum(row.p90_hours for row in self.rows if not row.plan_only)

    @property
    def in_hand(self) -> tuple[str, ...]:
        """The jobs to run that run or are queued already."""
        return tuple(job for job in self.to_run if self.states[job] in IN_HAND)

    @property
    def reserved_hours(self) -> float:
        """What is reserved for the jobs in hand: all that SLURM's may spend unwatched."""
        here = (job for job in self.in_hand if job not in self.granted_s)
        watched = sum(self.prices[job].p90_hours for job in here)
        return watched + sum(self.granted_s.values()) / 3600

    @property
    def left_hours(self) -> float:
        """What the budget has left before the missing jobs."""
        return self.loaded.spec.budget.gpu_hours - self.spent_hours

    @property
    def free_hours(self) -> float:
        """What the budget has left that is not reserved for jobs in hand."""
        return self.left_hours - self.reserved_hours

    @property
    def digest(self) -> str:
        """Names the set of jobs and outputs: two plans with one digest run the same."""
        listed = [[job.id, job.outputs] for job in self.expansion.jobs.values()]
        return hashlib.sha256(canonical(sorted(listed)).encode()).hexdigest()[:20]

    def allowance_s(self, job: str) -> float:
        """Device seconds after which a job stops itself: never more than the budget has left.

        Seconds, of a job that costs nothing.
        """
        if not self.expansion.jobs[job].charge:
            return max(FREE_ALLOWANCE_S, OUTGROWN * self.outgrown_s.get(job, 0.0))
        own = max(ALLOWANCE_OVER_P90 * self.prices[job].p90_hours * 3600, LEAST_ALLOWANCE_S)
        return min(own, self.left_hours * 3600)

    def shared_allowances_s(self, jobs: Collection[str]) -> dict[str, float]:
        """Allowances that stay within the budget together, where nobody watches what they spend.

        Each job gets what is reserved for it, and as much of its own allowance beyond as there is
        room for beside the jobs in hand and what the rest of the plan will reserve: first in
        proportion to its price, then towards the least that any job is allowed.
        """
        charged = [job for job in jobs if self.expansion.jobs[job].charge]
        own = {job: self.allowance_s(job) for job in charged}
        granted = {job: self.prices[job].p90_hours * 3600 for job in charged}
        doubled = {job: min(own[job], ALLOWANCE_OVER_P90 * granted[job]) for job in charged}
        later = set(self.to_run) - set(self.in_hand) - set(jobs)
        rest = sum(self.prices[job].p90_hours for job in later) * 3600
        room = self.free_hours * 3600 - rest
        for goals in (doubled, own):
            granted = _towards(granted, goals, room)
        free = {job: self.allowance_s(job) for job in set(jobs) - set(charged)}
        return free | granted

    def unsaved_s(self, job: str) -> float:
        """Seconds that a job may work before it has saved something to go on from, at p90.

        A fit saves checkpoints; what owes several outputs offers each when it is made.
        """
        its = self.expansion.jobs[job]
        whole = self.prices[job].p90_hours * 3600 / its.weight
        return 0.0 if its.kind == "fit" else whole / len(self.owed[job])


def _towards(
    granted: Mapping[str, float], goals: Mapping[str, float], room: float
) -> dict[str, float]:
    """What is granted, raised as far towards each job's goal as `room` holds for all of them."""
    wishes = {job: max(0.0, goals[job] - granted[job]) for job in granted}
    wished, left = sum(wishes.values()), max(0.0, room - sum(granted.values()))
    share = min(1.0, left / wished) if wished else 0.0
    return {job: granted[job] + share * wishes[job] for job in granted}


def make_plan(
    loaded: LoadedSpec,
    expansion: Expansion,
    arms: Mapping[str, ArmDeclaration],
    located: Located,
    records: Records,
    held: Mapping[str, Held],
    granted_s: Mapping[str, float],
    cancelled: Collection[str],
    benched: Benched | None,
) -> Plan:
    """Hold an expanded spec against what was recorded, and what is in hand or taken back."""
    jobs = expansion.jobs
    owed = records.owed(jobs)
    found = states(jobs, {job: job in owed for job in jobs}, records.last, held, cancelled)
    facts = _facts(loaded, expansion, located, owed)
    assumed = ASSUMED[facts.unit]

    def modelled_s(job: str, outputs: Sequence[str], machine: Machine) -> float:
        return jobs[job].charge * machine.seconds(work_of(jobs[job], arms, facts, outputs))

    def price_of(job: str, outputs: Sequence[str]) -> Price:
        seconds = modelled_s(job, outputs, assumed)
        by_rates = None if benched is None else modelled_s(job, outputs, benched.machine)
        beside = jobs[job].shares and loaded.spec.resources.side_by_side > 1
        key = price_key(jobs[job].kind, jobs[job].step, beside=beside)
        made = price(key, seconds, facts.unit, records.history, by_rates)
        return above(made, records.outgrown_s.get(job, 0.0) / 3600) if seconds else made

    rows = _rows(loaded, expansion, records.taken, price_of)
    to_run = tuple(job for job in owed if job in expansion.to_run)
    prices = {job: price_of(job, owed[job]) for job in to_run}
    made = packs(in_order(jobs, set(to_run)), loaded.spec.resources.side_by_side)
    return Plan(
        loaded,
        expansion,
        found,
        owed,
        {job: modelled_s(job, owed[job], assumed) for job in to_run},
        prices,
        tuple(rows),
        tuple(longest_first(made, {job: price.p50_hours for job, price in prices.items()})),
        records.spent_s.get(loaded.spec.name, 0.0) / 3600,
        host_gb(
            [
                (located.shapes.get(name, UNKNOWN), model.dtype)
                for name, model in loaded.spec.models.items()
            ],
            max((copied_bytes(jobs[job], arms, facts) for job in to_run), default=0),
        ),
        to_run,
        records.outgrown_s,
        granted_s,
        benched,
    )


def _facts(
    loaded: LoadedSpec, expansion: Expansion, located: Located, owed: Collection[str]
) -> Facts:
    shapes = {name: located.shapes.get(name, UNKNOWN) for name in located.models}
    tasks = {job.id: job.names["task"] for job in expansion.jobs.values() if job.step == "data"}
    train = {job: rows for job, task in tasks.items() if (rows := located.train_rows[task])}
    test = {job: rows for job, task in tasks.items() if (rows := located.test_rows[task])}
    chars = {
        job: cut
        for job, task in tasks.items()
        if (cut := loaded.spec.tasks[task].max_context_chars) is not None
    }
    alike = Counter(job.alike for id, job in expansion.jobs.items() if job.shares and id in owed)
    most = loaded.spec.resources.side_by_side
    together = {key: min(count, most) for key, count in alike.items()}
    starts = start_shares(packs(in_order(expansion.jobs, set(owed)), most))
    return Facts(shapes, test, train, chars, loaded.spec.budget.gpu, together, starts)


def _rows(
    loaded: LoadedSpec,
    expansion: Expansion,
    taken: Mapping[str, Collection[str]],
    price_of: Callable[[str, Sequence[str]], Price],
) -> list[Row]:
    """One row an experiment; what several share is counted and priced in the first.

    Plan-only experiments come after all others, so that nothing that runs is priced in them.
    """
    rows: dict[str, Row] = {}
    counted: set[str] = set()
    claimed: dict[str, set[str]] = {}
    seeded = {cell.experiment for cell in expansion.cells if cell.seeded}
    for experiment in sorted(loaded.spec.experiment, key=lambda each: each.plan_only):
        asked = expansion.experiments[experiment.name]
        prices = []
        for job, outputs in asked.items():
            before = claimed.setdefault(job, set())
            mine = [o for o in outputs if o not in taken.get(job, ()) and o not in before]
            before.update(mine)
            if mine:
                prices.append(price_of(job, mine))
        first = [job for job in asked if job not in counted]
        counted.update(first)
        rows[experiment.name] = Row(
            experiment.name,
            experiment.group or experiment.name,
            experiment.arms,
            experiment.tasks,
            len(experiment.seeds) if experiment.name in seeded else 1,
            math.prod(map(len, experiment.sweep.values())) * (1 + len(experiment.controls)),
            len(first),
            sum(any(o not in taken.get(job, ()) for o in asked[job]) for job in first),
            sum(price.p50_hours for price in prices),
            sum(price.p90_hours for price in prices),
            tuple(sorted({price.source for price in prices})),
            experiment.gpu_hours,
            experiment.plan_only,
        )
    return [rows[experiment.name] for experiment in loaded.spec.experiment]


@dataclass(frozen=True)
class Change:
    """How the jobs of a plan differ from those of an earlier one."""

    new: tuple[str, ...]
    changed: tuple[str, ...]
    gone: tuple[str, ...]
    kept: int


def compare(plan: Plan, earlier: Mapping[str, Mapping[str, object]]) -> Change:
    """Compare by id, and by label where a job of one name got other settings."""
    jobs = plan.expansion.jobs
    was = {
        str(record["label"]) + str(record["kind"]): record
        for job, record in earlier.items()
        if job not in jobs
    }
    new, changed = [], []
    for job in jobs.values():
        if job.id in earlier:
            continue
        before = was.pop(job.label + job.kind, None)
        if before is None:
            new.append(f"{job.kind} {job.label}")
        else:
            changed.append(f"{job.kind} {job.label}: {_difference(before, job)}")
    gone = [f"{record['kind']} {record['label']}" for record in was.values()]
    return Change(tuple(new), tuple(changed), tuple(gone), sum(job in earlier for job in jobs))


def _difference(before: Mapping[str, object], job: Job) -> str:
    """The settings that differ, as `key old -> new`."""
    old, new = _flat(before["settings"]), _flat(job.settings)
    keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    differing = [
        f"{Path(job.places['arm']).name} changed"
        if key == "arm_sha256" and "arm" in job.places
        else f"{key} {_short(old.get(key))} -> {_short(new.get(key))}"
        for key in keys
    ]
    return ", ".join(differing[:3]) or "its inputs changed"


def _short(value: object) -> object:
    """A value as a line holds it: of a hash its beginning."""
    return value[:12] if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else value


def _flat(value: object, prefix: str = "") -> dict[str, object]:
    """Settings by their whole keys, the number of samples in words."""
    if isinstance(value, Mapping):
        if prefix == "samples.":
            most, exactly = value.get("max"), value.get("exactly")
            return {"samples": f"at most {most}" if most else exactly or "all"}
        parts = (_flat(inner, f"{prefix}{key}.") for key, inner in value.items())
        return {key: inner for part in parts for key, inner in part.items()}
    return {prefix.rstrip("."): list(value) if isinstance(value, tuple) else value}
