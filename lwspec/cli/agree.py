"""Which jobs are started: those of the plan that was shown, within the budget."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence

from lwspec.cli.plan import change_since_submit, show_plan, wide_console
from lwspec.cli.session import Session, matching
from lwspec.engine.job import Job
from lwspec.engine.plan.pack import in_order
from lwspec.engine.plan.plan import Plan, compare
from lwspec.engine.runs.evidence import source_files
from lwspec.engine.runs.states import State
from lwspec.errors import BudgetError, UsageError

MOST_LINES = 20
"""Of what differs between two plans."""
TROUBLED = (State.FAILED, State.BLOCKED, State.INTERRUPTED, State.LOST, State.CANCELLED)


Hold = Callable[[Session], None]
"""Raises UsageError where the plan is not the one that was shown, and nobody agrees to it."""


def agree(session: Session, only: str | None, hold: Hold) -> set[str]:
    """The jobs to start: of the plan that `hold` lets pass, and within the budget.

    Raises BudgetError where it costs more than is left.
    """
    hold(session)
    wanted = chosen(session.plan, only)
    check_budget(session.plan, wanted)
    return wanted


def agree_again(session: Session, only: str | None, hold: Hold) -> set[str]:
    """The same of what failed, was lost or was cancelled, and of what it needs.

    Raises UsageError where there is nothing of the kind.
    """
    plan = session.plan
    troubled = {job for job in plan.to_run if plan.states[job] in TROUBLED}
    if not troubled:
        raise UsageError(
            "nothing failed, was lost or was cancelled",
            remedy="lwspec submit starts what has not run yet",
        )
    hold(session)
    asked = chosen(plan, only)
    wanted = {job for job in asked if job in troubled or _feeds(plan, job, troubled & asked)}
    check_budget(plan, wanted)
    return wanted


def _feeds(plan: Plan, job: str, troubled: set[str]) -> bool:
    """Whether a job is an input, at any distance, of one that is tried again."""
    jobs = plan.expansion.jobs
    waiting = [source for other in troubled for source in jobs[other].inputs.values()]
    while waiting:
        source = waiting.pop()
        if source == job:
            return True
        waiting += jobs[source].inputs.values()
    return False


def check_budget(plan: Plan, wanted: Collection[str]) -> None:
    """Raise BudgetError where jobs reserve more than is left beside what is in hand."""
    left = max(0.0, plan.free_hours)
    reserved = sum(plan.prices[job].p90_hours for job in wanted)
    if reserved <= left:
        return
    fit, hours = 0, 0.0
    for job in in_order(plan.expansion.jobs, set(wanted)):
        hours += plan.prices[job.id].p90_hours
        if hours > left:
            break
        fit += 1
    in_hand = f" beside {plan.reserved_hours:.2f} reserved" if plan.reserved_hours else ""
    raise BudgetError(
        f"these {len(wanted)} jobs reserve {reserved:.2f} hours; the budget has {left:.2f} of "
        f"{plan.loaded.spec.budget.gpu_hours:.2f} left{in_hand}",
        remedy=f"the first {fit} of them would fit: choose fewer with --only, or raise "
        "budget.gpu_hours",
    )


def since_shown(session: Session) -> list[str] | None:
    """What differs from the plan that was shown last, a line each; None where none was shown."""
    plan, shown = session.plan, session.memory.shown(session.loaded.spec.name)
    if shown is None:
        return None
    code = set(source_files().items()) ^ set(shown["source_files"].items())
    if shown["digest"] == plan.digest and not code:
        return []
    change = compare(plan, shown["jobs"])
    lines = [f"changed  {line}" for line in change.changed]
    lines += [f"new  {label}" for label in change.new]
    lines += [f"gone  {label}" for label in change.gone]
    lines += [f"code  lwspec/kernels/{file}" for file in sorted({file for file, _ in code})]
    return lines[:MOST_LINES] or ["the epochs of some fits"]


def holder(agreed: bool) -> Hold:
    """Shows a plan that was not shown before; asks, unless agreed, where it is another."""

    def hold(session: Session) -> None:
        differs = since_shown(session)
        if differs == []:
            return
        show_plan(session, change_since_submit(session), wide_console())
        session.memory.remember_shown(session.plan)
        if differs is not None and not agreed:
            _ask(differs)

    return hold


def _ask(differs: Sequence[str]) -> None:
    print("\nthe plan differs from the one shown last:")
    print("\n".join(f"  {line}" for line in differs))
    if not sys.stdin.isatty():
        raise UsageError(
            "the plan has changed since it was shown",
            remedy="lwspec submit again to run the plan above, or --yes to agree beforehand",
        )
    if input("run this plan? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UsageError("not submitted", remedy="lwspec plan, then lwspec submit")


def nothing_to_run(plan: Plan) -> str:
    """Why no job is started."""
    if plan.in_hand:
        return f"nothing to start: {len(plan.in_hand)} jobs run or are queued already"
    return "everything is done: nothing to run"


def chosen(plan: Plan, only: str | None) -> set[str]:
    """The jobs to run: all that owe something, or those that match and their inputs."""
    jobs = plan.expansion.jobs
    wanted: set[str] = set()

    def add(job: Job) -> None:
        if job.id not in wanted:
            wanted.add(job.id)
            for source in job.inputs.values():
                add(jobs[source])

    for job in matching(list(jobs.values()), only):
        add(job)
    return (wanted & set(plan.to_run)) - set(plan.in_hand)
