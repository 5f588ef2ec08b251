"""What state a job is in: a pure table over what its folder and its host say."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from lwspec.engine.job import Job
from lwspec.engine.runs.life import Held, Life


class State(StrEnum):
    """A job's state. Only DONE and FAILED last; the rest can change by itself or by `submit`."""

    DONE = "done"
    RUNNING = "running"
    QUEUED = "queued"
    WAITING = "waiting"
    BLOCKED = "blocked"
    INTERRUPTED = "interrupted"
    LOST = "lost"
    CANCELLED = "cancelled"
    FAILED = "failed"


IN_HAND = (State.DONE, State.RUNNING, State.QUEUED)
"""States of jobs that nothing needs to be started for."""


_STUCK = (State.FAILED, State.CANCELLED, State.BLOCKED)
"""States in which a job's dependants wait for a person."""


@dataclass(frozen=True)
class LastAttempt:
    """The newest attempt of a job: how it ended, or whether its process still lives here."""

    outcome: str | None
    alive: bool
    named: bool
    """Whether it has said who runs it: one that has not has done nothing, and may just begin."""


STOPPED = "stopped"
"""The outcome of an attempt that was asked to stop; one that was killed has none at all."""


def job_state(
    owed: bool, last: LastAttempt | None, held: Held | None, cancelled: bool, blocked: bool
) -> State:
    """The state of one job.

    `owed` says whether an output is missing, `held` what its newest allocation is at, `cancelled`
    whether a person took it back, `blocked` whether an input of it failed or was taken back.
    """
    if not owed:
        return State.DONE
    if last is not None and last.alive:
        return State.RUNNING
    if held is not None and held.life in (Life.QUEUED, Life.RUNNING):
        working = held.life == Life.RUNNING and last is not None and last.outcome is None
        return State.RUNNING if working else State.QUEUED
    if cancelled:
        return State.CANCELLED
    if held is not None and held.life == Life.LOST:
        return State.LOST
    if blocked:
        return State.BLOCKED
    if held is not None and held.fruitless:
        return State.FAILED
    if last is None or last.outcome == "finished":
        return State.WAITING
    if last.outcome is None and not last.named and held is None:
        return State.WAITING  # its process has only just begun, or died before it said anything
    if last.outcome is None or last.outcome == STOPPED:
        return State.INTERRUPTED
    return State.FAILED


def states(
    jobs: Mapping[str, Job],
    owed: Mapping[str, bool],
    last: Mapping[str, LastAttempt],
    held: Mapping[str, Held],
    cancelled: Collection[str],
) -> dict[str, State]:
    """The state of every job; `jobs` come inputs first."""
    found: dict[str, State] = {}
    for job in jobs.values():
        blocked = any(found.get(source) in _STUCK for source in job.inputs.values())
        found[job.id] = job_state(
            owed[job.id], last.get(job.id), held.get(job.id), job.id in cancelled, blocked
        )
    return found


def blockers(job: Job, jobs: Mapping[str, Job], found: Mapping[str, State]) -> list[Job]:
    """The failed or cancelled jobs that keep a blocked one from running."""
    roots: list[Job] = []
    for source in job.inputs.values():
        if found.get(source) == State.BLOCKED:
            roots += blockers(jobs[source], jobs, found)
        elif found.get(source) in _STUCK:
            roots.append(jobs[source])
    return roots
