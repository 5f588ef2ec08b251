"""`lwspec logs REF`: what a job printed in its newest attempt, and SLURM around it."""

from __future__ import annotations

import argparse
from pathlib import Path

from lwspec.cli.session import Session, matching, open_session
from lwspec.cli.terminal import printable
from lwspec.engine.redact import read_redacted

MOST_JOBS = 20


def main(options: argparse.Namespace) -> int:
    """Print the logs of the jobs that match, each under its path."""
    session = open_session(options.spec, options.db, options.runs, quiet=True)
    jobs = matching(list(session.plan.expansion.jobs.values()), options.ref)
    for job in jobs[:MOST_JOBS]:
        print(f"== {job.kind} {job.label} [{session.plan.states[job.id]}]")
        paths = log_paths(session, job.id)
        for path in paths:
            print(f"-- {path}")
            print(printable(read_redacted(path).rstrip()))
        if not paths:
            tried = bool(session.runs.folder(job.id).attempts())
            print("it has printed nothing so far" if tried else "no attempt was made yet")
    if len(jobs) > MOST_JOBS:
        print(f"and {len(jobs) - MOST_JOBS} more jobs match {options.ref!r}")
    return 0


def log_paths(session: Session, job: str) -> list[Path]:
    """The logs that there are: of the newest attempt, and of the allocation around it."""
    attempts = session.runs.folder(job).attempts()
    found = [attempts[-1].path / "log.txt"] if attempts else []
    element = session.watched.newest.get(job)
    slurm_id = session.watched.slurm_id(job) if element else None
    if element is not None and slurm_id is not None:
        found += sorted(element.submission.path.glob(f"{slurm_id}_*_log.out"))
    return [path for path in found if path.exists() and path.stat().st_size]
