"""Which jobs are started: those of the plan that was shown, within the budget."""

from __future__ import annotations

import sys
from collections.abc import Collection

from lwspec.cli.plan import change_since_submit, show_plan
from lwspec.cli.session import Session, matching
from lwspec.engine.evidence import source_files
from lwspec.engine.job import Job
from lwspec.engine.pack import in_order
from lwspec.engine.plan import Plan, compare
from lwspec.errors import BudgetError, UsageError


def agree(session: Session, only: str | None, agreed: bool) -> set[str]:
    """The jobs to start: of the plan that was shown, and within the budget.

    Raises UsageError where the plan differs from the one shown, BudgetError where it costs more
    than is left.
    """
    hold_to_what_was_shown(session, agreed)
    wanted = chosen(session.plan, only)
    check_budget(session.plan, wanted)
    return wanted


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


def hold_to_what_was_shown(session: Session, agreed: bool) -> None:
    """Ask before running anything but the plan that was shown last."""
    plan, shown = session.plan, session.memory.shown(session.loaded.spec.name)
    code = set(source_files().items()) ^ set(shown["source_files"].items()) if shown else set()
    if shown is not None and shown["digest"] == plan.digest and not code:
        return
    show_plan(session, change_since_submit(session))
    session.memory.remember_shown(plan)
    if shown is None or agreed:
        return
    change = compare(plan, shown["jobs"])
    print("\nthe plan differs from the one shown last:")
    lines = [
        *(f"  changed  {line}" for line in change.changed),
        *(f"  new  {x}" for x in change.new),
    ]
    lines += [f"  gone  {label}" for label in change.gone]
    lines += [f"  code  lwspec/kernels/{file}" for file in sorted({file for file, _ in code})]
    print("\n".join(lines[:20]) or "  the epochs of some fits")
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
