"""Whether an allocation is alive: a pure table over its own marks, squeue and sacct.

An allocation says itself when it starts, lives and ends. squeue knows what waits or runs now, or
ended minutes ago; it goes before sacct, which still says NODE_FAIL or PREEMPTED of what was
requeued, and RUNNING for ever of what a controller lost. What squeue does not know, and sacct does
not say the end of, is lost after a silence longer than the grace. A state of an unknown name counts
as alive.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

GRACE_S = 120.0
"""How long an allocation may be silent, and unknown to the cluster, before it counts as lost."""

BEAT_S = 15.0
"""How often a running allocation gives a sign of life."""

SBATCH_S = 30.0
"""How long an `sbatch` whose caller was killed may still reach the controller."""

REQUEUED = "requeued"
"""How an allocation ends that asked SLURM to be started again."""

PENDING = {
    "PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD",
    "SPECIAL_EXIT",
}  # fmt: skip

ENDED = {
    "COMPLETED": "finished",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "TIMEOUT": "timeout",
    "PREEMPTED": "preemption",
    "NODE_FAIL": "node",
    "BOOT_FAIL": "node",
    "OUT_OF_MEMORY": "out of host memory",
    "DEADLINE": "timeout",
    "REVOKED": "cancelled",
}
"""States from which SLURM itself starts nothing again, and what they mean."""


ALIVE = PENDING | {"RUNNING", "SUSPENDED", "COMPLETING", "STOPPED", "SIGNALING", "STAGE_OUT"}
"""States that squeue shows for as long as they are true."""

TELLING = ("timeout", "preemption", "node", "out of host memory")
"""Ends that the cluster knows better than the allocation, which only says that it was stopped."""


class Life(StrEnum):
    """What an allocation is at."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"
    LOST = "lost"


@dataclass(frozen=True)
class Marks:
    """What an allocation and its submitter left on disk; times in seconds since the epoch."""

    intended_at: float
    submitted: bool
    started_at: float | None = None
    """Of its newest start."""
    beat_at: float | None = None
    ended: str | None = None
    """How its newest start ended."""


@dataclass(frozen=True)
class Held:
    """What a job's newest allocation is at."""

    life: Life
    why: str | None
    """How it ended, or why SLURM holds it back."""
    fruitless: bool
    """Whether it failed before the job began, as often as kills are tried again."""


@dataclass(frozen=True)
class Told:
    """What the cluster says of it: `asked` is False where squeue could not be reached."""

    asked: bool
    queue: str | None = None
    account: str | None = None
    reason: str | None = None
    """Why squeue says that it waits."""


def life(marks: Marks, told: Told, now: float) -> tuple[Life, str | None]:
    """What an allocation is at and why: once it ended, or while SLURM holds it back."""
    queue, account = state_name(told.queue), state_name(told.account)
    if queue is not None and queue not in ENDED:
        held = told.reason if "held" in (told.reason or "").lower() else None
        return (Life.QUEUED if queue in PENDING else Life.RUNNING), held
    if marks.ended in (REQUEUED, "stopped") and not told.asked:
        return Life.QUEUED, None
    ended = next((ENDED[state] for state in (queue, account) if state in ENDED), None)
    if marks.ended is not None:
        return Life.ENDED, ended if ended in TELLING else marks.ended
    if ended is not None:
        return Life.ENDED, ended
    as_was = Life.QUEUED if marks.started_at is None else Life.RUNNING
    unheard_of = account is not None and account not in ALIVE
    if not told.asked or (unheard_of and marks.started_at is None):
        return as_was, None
    if not marks.submitted and marks.started_at is None:
        doubtful = now - marks.intended_at < SBATCH_S
        return (Life.QUEUED, None) if doubtful else (Life.ENDED, "not submitted")
    seen = max(marks.intended_at, marks.started_at or 0.0, marks.beat_at or 0.0)
    return (as_was, None) if now - seen < GRACE_S else (Life.LOST, None)


def state_name(text: str | None) -> str | None:
    """The state in what squeue or sacct print: `CANCELLED by 0` is CANCELLED."""
    words = (text or "").split()
    return words[0].rstrip("+") if words else None
