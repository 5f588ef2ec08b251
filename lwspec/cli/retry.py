"""`lwspec retry [SPEC]`: submit what failed, was lost or was cancelled, and what waits for it."""

from __future__ import annotations

import argparse

from lwspec.cli.agree import check_budget, chosen, hold_to_what_was_shown
from lwspec.cli.session import Session
from lwspec.cli.submit import submit
from lwspec.engine.states import State
from lwspec.errors import UsageError

TROUBLED = (State.FAILED, State.BLOCKED, State.INTERRUPTED, State.LOST, State.CANCELLED)


def main(options: argparse.Namespace) -> int:
    """Grant the jobs anew and start them, with what they need."""
    return submit(options, lambda session: _agree(session, options))


def _agree(session: Session, options: argparse.Namespace) -> set[str]:
    plan = session.plan
    troubled = {job for job in plan.to_run if plan.states[job] in TROUBLED}
    if not troubled:
        raise UsageError(
            "nothing failed, was lost or was cancelled",
            remedy="lwspec submit starts what has not run yet",
        )
    hold_to_what_was_shown(session, options.yes)
    all_of_it = chosen(plan, options.only)
    wanted = {
        job for job in all_of_it if job in troubled or _feeds(session, job, troubled & all_of_it)
    }
    check_budget(plan, wanted)
    return wanted


def _feeds(session: Session, job: str, troubled: set[str]) -> bool:
    """Whether a job is an input, at any distance, of one that is tried again."""
    jobs = session.plan.expansion.jobs
    waiting = [source for other in troubled for source in jobs[other].inputs.values()]
    while waiting:
        source = waiting.pop()
        if source == job:
            return True
        waiting += jobs[source].inputs.values()
    return False
