"""`lwspec submit [SPEC]`: run what the plan lacks, exactly as it was shown."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Collection
from types import FrameType

from lwspec.cli.plan import change_since_submit, show_plan
from lwspec.cli.progress import observer
from lwspec.cli.session import Session, matching, open_session
from lwspec.cli.summary import summary
from lwspec.engine.evidence import source_files
from lwspec.engine.ingest import ingest
from lwspec.engine.job import Job
from lwspec.engine.local import LocalExecutor, Slots, only_one
from lwspec.engine.pack import in_order, packs
from lwspec.engine.plan import Plan, compare
from lwspec.engine.submit import LOCAL, write_jobs
from lwspec.errors import BudgetError, UsageError

INTERRUPTED = 130
"""The exit status of what a person stopped, as a shell gives it."""


def main(options: argparse.Namespace) -> int:
    """Submit; 0 when everything asked for is done, 1 when a job failed."""
    return submit(options, lambda session: agree(session, options.only, options.yes))


def submit(options: argparse.Namespace, agree: Callable[[Session], set[str]]) -> int:
    """Start the jobs that `agree` returns where the options say."""
    if options.executor == "slurm" or (options.cluster and options.executor is None):
        from lwspec.cli.slurm import submit_to_slurm  # submitit is not for every command

        return submit_to_slurm(options, agree)
    if options.dry_run or options.cluster:
        raise UsageError(
            "--dry-run and --cluster are for SLURM",
            remedy="lwspec plan shows what runs here; --executor slurm submits",
        )
    session = open_session(options.spec, options.db, options.runs)
    wanted = agree(session)
    if not wanted:
        print(nothing_to_run(session.plan))
        session.memory.remember_submitted(session.plan)
        ingest(session.runs, session.store)
        return 0
    with only_one(options.runs):  # from here on nobody else starts jobs
        session = open_session(options.spec, options.db, options.runs, quiet=True)
        return _run_here(session, wanted & set(session.plan.to_run) - set(session.plan.in_hand))


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
    left = max(0.0, plan.left_hours - plan.reserved_hours)
    reserved = sum(plan.prices[job].p90_hours for job in wanted)
    if reserved <= left:
        return
    fit, hours = 0, 0.0
    for job in in_order(plan.expansion.jobs, set(wanted)):
        hours += plan.prices[job.id].p90_hours
        if hours > left:
            break
        fit += 1
    in_hand = f" beside {plan.reserved_hours:.2f} reserved" if plan.in_hand else ""
    raise BudgetError(
        f"these {len(wanted)} jobs reserve {reserved:.2f} hours; the budget has {left:.2f} of "
        f"{plan.loaded.spec.budget.gpu_hours:.2f} left{in_hand}",
        remedy=f"the first {fit} of them would fit: choose fewer with --only, or raise "
        "budget.gpu_hours",
    )


def _run_here(session: Session, wanted: set[str]) -> int:
    """Run jobs on this machine."""
    plan = session.plan
    todo = packs(in_order(plan.expansion.jobs, wanted))
    retries = plan.loaded.spec.retries
    slots = Slots.of_this_machine()
    executor = LocalExecutor(session.runs, todo, slots, plan.left_hours, retries, fork=True)
    executor.check_fits()
    executor.wait_for_orphans()
    allowance_s = {job: plan.allowance_s(job) for job in wanted}
    write_jobs(plan, session.runs, allowance_s, LOCAL)
    session.memory.remember_submitted(plan)
    _run(session, executor)
    status = summary(session, wanted)
    if executor.over_budget:
        raise BudgetError(
            "the budget is spent: what ran has stopped at a checkpoint",
            remedy="raise budget.gpu_hours, then lwspec submit",
        )
    return INTERRUPTED if executor.stopped else status


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

    for job in matching(plan, only):
        add(job)
    return (wanted & set(plan.to_run)) - set(plan.in_hand)


def _run(session: Session, executor: LocalExecutor) -> None:
    """Run packs on this machine; the first Ctrl-C stops at checkpoints, the second kills."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        print("\nstopping: fits save a checkpoint first; again to kill", file=sys.stderr)
        executor.stop()

    before = {name: signal.signal(name, interrupt) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        with observer(session.runs) as observe:
            executor.run(observe)
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
