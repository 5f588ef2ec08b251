"""How far the plan is, experiment by experiment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lwspec.engine.plan.plan import Plan
from lwspec.engine.runs.states import State
from lwspec.report.content import Content


@dataclass(frozen=True)
class Jobs:
    """Jobs by state."""

    states: Mapping[str, State]

    @property
    def counts(self) -> Counter[State]:
        """How many are in each state."""
        return Counter(self.states.values())

    @property
    def done(self) -> int:
        """How many are done."""
        return self.counts[State.DONE]

    @property
    def failed(self) -> int:
        """How many have failed."""
        return self.counts[State.FAILED]

    @property
    def missing(self) -> int:
        """How many are neither done nor failed."""
        return len(self.states) - self.done - self.failed

    @property
    def said(self) -> str:
        """What is not done, in words."""
        counts = sorted(self.counts.items())
        others = [f"{n} {state.value}" for state, n in counts if state != State.DONE]
        return ", ".join(others) or "complete"


@dataclass(frozen=True)
class Progress:
    """A line of the plan."""

    name: str
    group: str
    """Empty where it is the experiment's own name."""
    arms: Sequence[str]
    tasks: Sequence[str]
    seeds: int
    """0 in the line that sums all up."""
    plan_only: bool
    jobs: Jobs
    hours: float


def experiments(content: Content) -> Iterator[Progress]:
    """A line an experiment. What several share counts in each, its hours in the first."""
    plan, seconds, charged = content.plan, _seconds(content), set[str]()
    for experiment in plan.loaded.spec.experiment:
        asked = plan.expansion.experiments[experiment.name]
        states = {job: _state(job, outputs, plan) for job, outputs in asked.items()}
        hours = sum(seconds[job] for job in asked if job not in charged) / 3600
        charged.update(asked)
        yield Progress(
            experiment.name,
            experiment.group or "",
            experiment.arms,
            experiment.tasks,
            len(experiment.seeds),
            experiment.plan_only,
            Jobs(states),
            hours,
        )


def total(content: Content) -> Progress:
    """All jobs of the plan, each counted once."""
    hours = sum(_seconds(content).values()) / 3600
    jobs = Jobs(content.plan.states)
    return Progress("All, each job once", "", (), (), 0, False, jobs, hours)


def not_done(content: Content) -> list[str]:
    """Every job that is not done, and its state."""
    jobs = content.plan.expansion.jobs
    return [
        f"{jobs[job].kind} {jobs[job].label}: {state.value}"
        for job, state in content.plan.states.items()
        if state != State.DONE
    ]


def _state(job: str, outputs: Sequence[str], plan: Plan) -> State:
    """An experiment's job is done when the outputs that this experiment asks for are taken."""
    lacks = any(output in plan.owed.get(job, ()) for output in outputs)
    return plan.states[job] if lacks else State.DONE


def _seconds(content: Content) -> Counter[str]:
    seconds: Counter[str] = Counter()
    for (job, _), row in content.evidence.attempts.items():
        seconds[job] += row["device_s"]
    return seconds
