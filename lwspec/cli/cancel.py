"""`lwspec cancel [SPEC]`: take jobs back, on this machine or in SLURM."""

from __future__ import annotations

import argparse
import os
import signal
from contextlib import suppress

from lwspec.cli.session import Session, matching, open_session
from lwspec.engine.executors.slurm.send import cancel
from lwspec.engine.job import Job
from lwspec.engine.runs.attempt import AttemptFolder
from lwspec.engine.runs.process import lives
from lwspec.engine.runs.states import State
from lwspec.errors import RunFolderError, UsageError

ACTIVE = (State.RUNNING, State.QUEUED)


def main(options: argparse.Namespace) -> int:
    """Cancel the jobs that match, and say which were."""
    session = open_session(options.spec, options.db, options.runs)
    for job in take_back(session, options.only):
        print(f"cancelled  {job.kind} {job.label}")
    print("next       lwspec retry, or submit, starts them again")
    return 0


def take_back(session: Session, only: str | None) -> list[Job]:
    """Cancel what was started and is not done; what shares an allocation with it ends too.

    Jobs of an earlier plan that SLURM still holds are among them. Raises UsageError where there is
    none.
    """
    plan, folder = session.plan, session.runs.folder
    gone = [folder(job).job() for job in plan.granted_s if job not in plan.expansion.jobs]
    known = {job.id: job for job in (*plan.expansion.jobs.values(), *gone)}
    over = (State.DONE, State.CANCELLED, State.FAILED)
    asked = [
        job.id
        for job in matching(list(known.values()), only)
        if plan.states.get(job.id) not in over and (folder(job.id).path / "job.json").exists()
    ]
    if not asked:
        raise UsageError("no such job was started and is not done", remedy="lwspec status")
    newest = session.watched.newest
    queued = [job for job in asked if job in newest]
    jobs = {*asked, *(member for job in queued for member in newest[job].jobs)}
    taken = [job for job in jobs if job in asked or plan.states.get(job) in ACTIVE]
    for job in taken:
        folder(job).cancel()
    ids = {session.watched.slurm_id(job) for job in queued}
    cancel(sorted(id for id in ids if id is not None))
    for job in asked:
        for attempt in session.runs.folder(job).attempts():
            with suppress(RunFolderError):  # damage, which is told where records are read
                _stop_here(attempt)
    return [known[job] for job in taken]


def _stop_here(attempt: AttemptFolder) -> None:
    """Ask the attempt's process on this machine to stop at a checkpoint."""
    process = attempt.process()
    if process is not None and attempt.ended() is None and lives(process):
        os.kill(process["pid"], signal.SIGTERM)
