"""Run jobs by their folders: `python -m lwspec.kernels.run runs/fit-3f9c...`.

This is what executors start and what a person may type. Fits that share the frozen receiver's
passes run side by side, everything else one after the other.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from lwspec.engine.modes import keep_the_world_out
from lwspec.engine.redact import redact_stream
from lwspec.engine.runs.runfolder import JobFolder, Runs
from lwspec.errors import RunFolderError
from lwspec.kernels.attempt import Clock, StopFlag
from lwspec.kernels.going import Going

if TYPE_CHECKING:
    from lwspec.kernels.training.receiver_pass import Ask, Told


def main(arguments: Sequence[str]) -> int:
    """Run each job whose inputs are there; 1 if any failed."""
    logging.basicConfig(level=logging.WARNING)
    if not arguments:
        print("usage: python -m lwspec.kernels.run JOB_FOLDER ...", file=sys.stderr)
        return 2
    stop = StopFlag()
    stop.listen()
    failed = False
    for together in _side_by_side([JobFolder(Path(argument)) for argument in arguments]):
        if stop.number is not None:
            return 1
        failed |= not run_jobs(together, stop)
    return 1 if failed else 0


def _side_by_side(folders: Sequence[JobFolder]) -> list[list[JobFolder]]:
    """Neighbours that may be trained side by side together, each other job by itself."""
    return [list(group) for _, group in groupby(folders, _alike)]


def _alike(folder: JobFolder) -> str:
    try:
        return folder.job().alike
    except RunFolderError:
        return str(folder.path)  # which is said where it is run


def run_jobs(folders: Sequence[JobFolder], stop: StopFlag) -> bool:
    """An attempt at each job, side by side, unless nothing is owed or it was taken back.

    True when everything owed was delivered.
    """
    clock, going, left = Clock(jobs=0), [], False
    for folder in folders:
        try:
            if folder.owed(folder.job().outputs):
                if _cancelled(folder) or _missing(folder):
                    left = True
                else:
                    going.append(Going(folder, stop, clock))
        except RunFolderError as error:
            print(f"lwspec: {error}", file=sys.stderr)
            left = True
    _work_on(going)
    return not left and all(each.outcome == "finished" for each in going)


def _cancelled(folder: JobFolder) -> bool:
    """Whether a person took the job back, which is said."""
    if folder.cancelled():
        print(f"lwspec: {folder.job().label} was cancelled: lwspec retry", file=sys.stderr)
        return True
    return False


def _missing(folder: JobFolder) -> bool:
    """Whether an input is missing, which is said."""
    job, runs = folder.job(), Runs(folder.path.parent)
    for role, source in job.inputs.items():
        if runs.folder(source).owed(job.reads[role]):
            print(f"lwspec: {job.label} waits for {source}", file=sys.stderr)
            return True
    return False


def _work_on(going: Sequence[Going]) -> None:
    """Work until all have ended; what the receiver is asked, it is asked for all at once."""
    together = True
    asked = {each: ask for each in going if (ask := _next(each, None)) is not None}
    while asked:
        from lwspec.kernels.training.receiver_pass import (
            answer,  # not before a job has imported torch
        )

        told, together = answer(list(asked.values()), together)
        asked = {
            each: ask
            for each, said in zip(asked, told, strict=True)
            if (ask := _next(each, said)) is not None
        }


def _next(each: Going, told: Told | Exception | None) -> Ask | None:
    """What a job asks next; None where it has ended, or cannot even write that it has."""
    try:
        return each.go_on(told)
    except OSError as error:
        print(f"lwspec: {each.attempt.job.label}: {error}", file=sys.stderr)
        each.attempt.clock.leave()
        return None


if __name__ == "__main__":
    keep_the_world_out()
    redact_stream(sys.stdout)
    redact_stream(sys.stderr)
    raise SystemExit(main(sys.argv[1:]))
