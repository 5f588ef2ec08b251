"""What there is to see of a plan that runs: experiments, running jobs, failures, time left."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lwspec.cli.logs import log_paths
from lwspec.cli.session import Session
from lwspec.cli.summary import failure_of
from lwspec.cli.terminal import printable
from lwspec.cli.told import line_of
from lwspec.cli.watching.pace import Pace, Paces
from lwspec.engine.job import Job
from lwspec.engine.plan.plan import Plan
from lwspec.engine.redact import read_redacted
from lwspec.engine.runs.states import State

MOST_FAILURES = 20
"""Whose logs are read."""
LOG_END = 1 << 16
"""Bytes of a log that are read, from its end."""
GOING = (State.RUNNING, State.QUEUED, State.WAITING)
"""States of jobs that end by themselves while something starts them."""
TELLING = re.compile(r"error|exception|fatal|killed|out of memory|no space left", re.I)


@dataclass(frozen=True)
class Progress:
    """How far an experiment is."""

    name: str
    counts: Mapping[State, int]
    share: float
    """From 0 to 1: jobs that are done, and what running ones have done of theirs."""
    left_s: float | None
    """Until its last job is done; None where nothing of it is going."""


@dataclass(frozen=True)
class Failure:
    """A job that failed: the class of its failure, what it said, and what its log says first."""

    label: str
    kind: str
    message: str
    log: str


@dataclass(frozen=True)
class View:
    """A plan at one moment."""

    spec: str
    unit: str
    budget_hours: float
    spent_hours: float
    reserved_hours: float
    free_hours: float
    to_run_hours: float
    left_s: float | None
    states: Mapping[str, State]
    """By kind and label, of the jobs that are to run or have run."""
    experiments: tuple[Progress, ...]
    running: tuple[tuple[str, Pace | None], ...]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]

    @property
    def counts(self) -> Counter[State]:
        """How many jobs are in each state."""
        return Counter(self.states.values())


def look(session: Session, paces: Paces, *, starting: bool, trouble: Sequence[str] = ()) -> View:
    """See a session's plan. `starting` says whether somebody starts jobs that wait."""
    plan = session.plan
    later = {row.experiment for row in plan.rows if row.plan_only}
    asked = {name: ids for name, ids in plan.expansion.experiments.items() if name not in later}
    shown = {job: plan.expansion.jobs[job] for ids in asked.values() for job in ids}
    running = {
        job: paces.of(session.runs.folder(job).attempts()[-1])
        for job in shown
        if plan.states[job] == State.RUNNING and session.runs.folder(job).attempts()
    }
    ends_s = times_left(plan, running, starting=starting)
    failed = [job for job in shown.values() if plan.states[job.id] == State.FAILED]
    other = (State.RUNNING, State.FAILED)
    lines = (line_of(session, job) for job in shown.values() if plan.states[job.id] not in other)
    return View(
        plan.loaded.spec.name,
        plan.loaded.spec.budget.gpu,
        plan.loaded.spec.budget.gpu_hours,
        plan.spent_hours,
        plan.reserved_hours,
        plan.free_hours,
        plan.p50_hours,
        max(ends_s.values(), default=None),
        {_called(job): plan.states[job.id] for job in shown.values()},
        tuple(_experiment(name, list(ids), plan, running, ends_s) for name, ids in asked.items()),
        tuple((_called(shown[job]), pace) for job, pace in running.items()),
        tuple(_failure(session, job) for job in failed[:MOST_FAILURES]),
        tuple(printable(line) for line in (*trouble, *lines) if line is not None),
    )


def times_left(
    plan: Plan, running: Mapping[str, Pace | None], *, starting: bool
) -> dict[str, float]:
    """Seconds until each job that is going should be done, from paces and prices.

    Packs end in their order, as many at once as now run: those that run tell themselves how long
    they take, those that wait take what they are priced at.
    """
    going = [state for state in GOING if starting or state != State.WAITING]
    jobs, states = plan.expansion.jobs, plan.states
    busy = [pack for pack in plan.packs if any(job.id in running for job in pack.jobs)]
    at_once = len(busy) or plan.loaded.spec.budget.gpus
    ends_s: dict[str, float] = {}
    before_s = 0.0
    for pack in sorted(plan.packs, key=lambda pack: pack not in busy):
        its = [job for job in pack.jobs if states[job.id] in going]
        told = {job.id: pace.left_s for job in its if (pace := running.get(job.id))}
        known = {job: left_s for job, left_s in told.items() if left_s is not None}
        rest = [job.id for job in its if job.id not in known]
        priced = sum(plan.prices[job].p50_hours * 3600 / jobs[job].weight for job in rest)
        takes_s = max(known.values(), default=0.0) + priced
        before_s += takes_s
        ends_s |= {job.id: max(takes_s, before_s / at_once) for job in its}
    return ends_s


def _experiment(
    name: str,
    ids: Sequence[str],
    plan: Plan,
    running: Mapping[str, Pace | None],
    ends_s: Mapping[str, float],
) -> Progress:
    counts = Counter(plan.states[job] for job in ids)
    parts = sum(pace.share for job in ids if (pace := running.get(job)))
    left = [ends_s[job] for job in ids if job in ends_s]
    share = (counts[State.DONE] + parts) / len(ids)
    return Progress(name, counts, share, max(left, default=None))


def _failure(session: Session, job: Job) -> Failure:
    tried, held = session.records.attempts.get(job.id, ()), session.watched.held.get(job.id)
    kind, message = failure_of(tried, held)
    first = (message.splitlines() or [""])[0]
    found = [
        line
        for path in log_paths(session, job.id)
        if (line := useful_line(read_redacted(path, LOG_END)))
    ]
    log = found[0] if found and found[0] not in message else ""
    return Failure(_called(job), kind, printable(first), printable(log))


def useful_line(log: str) -> str:
    """The line of a log that says what went wrong: of an exception, an error, or its last."""
    lines = [line.rstrip() for line in log.splitlines() if line.strip()]
    traces = [n for n, line in enumerate(lines) if line.startswith("Traceback (most recent call")]
    if traces:
        after = [line for line in lines[traces[-1] + 1 :] if not line.startswith(" ")]
        if after:
            return after[0]
    telling = [line.strip() for line in lines if TELLING.search(line)]
    return telling[0] if telling else (lines[-1].strip() if lines else "")


def _called(job: Job) -> str:
    return f"{job.kind} {job.label}"
