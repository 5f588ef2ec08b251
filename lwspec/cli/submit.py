"""`lwspec submit [SPEC]`: run what the plan lacks, exactly as it was shown."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from types import FrameType

from lwspec.cli.agree import agree, nothing_to_run
from lwspec.cli.progress import observer
from lwspec.cli.session import Session, open_session
from lwspec.cli.summary import summary
from lwspec.engine.ingest import ingest
from lwspec.engine.local import LocalExecutor, Slots
from lwspec.engine.lock import STARTING, only_one
from lwspec.engine.pack import in_order, packs
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
        ingest(session.runs, session.store, session.plan.expansion.jobs)
        return 0
    with only_one(options.runs, STARTING):  # from here on nobody else starts jobs
        session = open_session(options.spec, options.db, options.runs, quiet=True)
        wanted = wanted & set(session.plan.to_run) - set(session.plan.in_hand)
        return _run_here(session, wanted, any_code=not options.snapshot)


def _run_here(session: Session, wanted: set[str], *, any_code: bool) -> int:
    """Run jobs on this machine."""
    plan = session.plan
    todo = packs(in_order(plan.expansion.jobs, wanted), plan.loaded.spec.resources.side_by_side)
    retries = plan.loaded.spec.retries
    slots = Slots.of_this_machine()
    executor = LocalExecutor(session.runs, todo, slots, plan.left_hours, retries, fork=True)
    executor.check_fits()
    executor.wait_for_orphans()
    allowance_s = {job: plan.allowance_s(job) for job in wanted}
    write_jobs(plan, session.runs, allowance_s, LOCAL, any_code=any_code)
    session.memory.remember_submitted(plan)
    _run(session, executor)
    status = summary(session, wanted)
    if executor.over_budget:
        raise BudgetError(
            "the budget is spent: what ran has stopped at a checkpoint",
            remedy="raise budget.gpu_hours, then lwspec submit",
        )
    return INTERRUPTED if executor.stopped else status


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
