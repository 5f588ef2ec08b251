"""`lwspec submit [SPEC]`: run what the plan lacks, exactly as it was shown."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

from lwspec.cli.agree import Hold, agree, holder, nothing_to_run
from lwspec.cli.progress import observer
from lwspec.cli.session import Project, Session
from lwspec.cli.summary import summary
from lwspec.engine.executors.local import LocalExecutor, Slots, Tick
from lwspec.engine.executors.submit import LOCAL, write_jobs
from lwspec.engine.plan.pack import in_order, longest_first, packs
from lwspec.engine.runs.lock import STARTING, only_one
from lwspec.engine.runs.runfolder import Runs
from lwspec.engine.store.ingest import ingest
from lwspec.errors import BudgetError, UsageError, nearest

EXECUTORS = ("local", "slurm")
INTERRUPTED = 130
"""The exit status of what a person stopped, as a shell gives it."""

Agree = Callable[[Session, str | None, Hold], set[str]]
"""Which of the jobs that match are started, once what was shown is held to."""
Observing = Callable[[Runs], AbstractContextManager[Callable[[Tick], None]]]
"""What is shown of the jobs that run here."""


def main(options: argparse.Namespace) -> int:
    """Submit; 0 when everything asked for is done, 1 when a job failed."""
    return start(options, agree)


def start(options: argparse.Namespace, agree: Agree) -> int:
    """Start the jobs that `agree` returns where the options say."""
    project = Project(options.spec, options.db, options.runs)

    def agreed(session: Session) -> set[str]:
        return agree(session, options.only, holder(options.yes))

    if on_slurm(options.executor, options.cluster):
        from lwspec.cli.slurm import Sending, submit_to_slurm  # submitit is not for every command

        how = Sending(options.cluster, options.snapshot, options.wait, options.dry_run)
        return submit_to_slurm(project, how, agreed)
    if options.dry_run:
        raise _for_slurm()
    return submit_here(project, agreed, observer, any_code=not options.snapshot)


def on_slurm(executor: str | None, cluster: str | None) -> bool:
    """Whether jobs are for SLURM: where it is named, or a cluster is and nothing else.

    Raises UsageError for another executor, and for a cluster on this machine.
    """
    if executor not in (None, *EXECUTORS):
        raise UsageError(
            f"there is no executor {executor!r}",
            nearest=nearest(executor, EXECUTORS),
            remedy=f"choose among: {', '.join(EXECUTORS)}",
        )
    if executor == "local" and cluster:
        raise _for_slurm()
    return executor == "slurm" or bool(cluster)


def _for_slurm() -> UsageError:
    return UsageError(
        "--dry-run and --cluster are for SLURM",
        remedy="lwspec plan shows what runs here; --executor slurm submits",
    )


def submit_here(
    project: Project, agree: Callable[[Session], set[str]], observing: Observing, *, any_code: bool
) -> int:
    """Run the jobs that `agree` returns on this machine; 0, 1 where one failed, or INTERRUPTED."""
    session = project.open(quiet=False)
    wanted = agree(session)
    if not wanted:
        project.say(nothing_to_run(session.plan))
        session.memory.remember_submitted(session.plan)
        ingest(session.runs, session.store, session.plan.expansion.jobs)
        return 0
    with only_one(project.runs, STARTING):  # from here on nobody else starts jobs
        session = project.open()
        wanted = wanted & set(session.plan.to_run) - set(session.plan.in_hand)
        return _run(project, session, wanted, observing, any_code=any_code)


def _run(
    project: Project, session: Session, wanted: set[str], observing: Observing, *, any_code: bool
) -> int:
    plan = session.plan
    made = packs(in_order(plan.expansion.jobs, wanted), plan.loaded.spec.resources.side_by_side)
    todo = longest_first(made, {job: plan.prices[job].p50_hours for job in wanted})
    retries = plan.loaded.spec.retries
    slots = Slots.of_this_machine()
    executor = LocalExecutor(session.runs, todo, slots, plan.left_hours, retries, fork=True)
    executor.check_fits()
    executor.wait_for_orphans()
    allowance_s = {job: plan.allowance_s(job) for job in wanted}
    write_jobs(plan, session.runs, allowance_s, LOCAL, any_code=any_code)
    session.memory.remember_submitted(plan)
    with _stopping(executor, project.warn), observing(session.runs) as observe:
        executor.run(observe)
    status = summary(session, wanted, project.say)
    if executor.over_budget:
        raise BudgetError(
            "the budget is spent: what ran has stopped at a checkpoint",
            remedy="raise budget.gpu_hours, then lwspec submit",
        )
    return INTERRUPTED if executor.stopped else status


@contextmanager
def _stopping(executor: LocalExecutor, warn: Callable[[str], None]) -> Iterator[None]:
    """The first Ctrl-C stops at checkpoints, the second kills.

    Only the main thread is interrupted, and only it can say what happens then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        executor.stop()
        warn("stopping: fits save a checkpoint first; again to kill")

    before = {name: signal.signal(name, interrupt) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
