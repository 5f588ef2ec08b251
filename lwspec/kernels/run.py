"""Run jobs by their folders: `python -m lwspec.kernels.run runs/fit-3f9c...`.

This is what executors start and what a person may type. Fits that share the frozen receiver's
passes run side by side, everything else one after the other.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from lwspec.engine.runfolder import JobFolder, Runs
from lwspec.errors import RunFolderError
from lwspec.kernels.attempt import Clock, StopFlag
from lwspec.kernels.going import Going


def main(arguments: Sequence[str]) -> int:
    """Run each job whose inputs are there; 1 if any failed."""
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
    """First those that share the receiver's passes, together; then each other by itself."""
    sharing = [folder for folder in folders if _shares(folder)]
    alone = [[folder] for folder in folders if folder not in sharing]
    return [sharing, *alone] if sharing else alone


def _shares(folder: JobFolder) -> bool:
    try:
        return folder.job().shares
    except RunFolderError:
        return False  # which is said where it is run


def run_jobs(folders: Sequence[JobFolder], stop: StopFlag) -> bool:
    """An attempt at each job, side by side, unless nothing is owed.

    True when everything owed was delivered.
    """
    ready, waiting = [], False
    for folder in folders:
        try:
            if folder.owed(folder.job().outputs):
                missing = _missing(folder)
                waiting |= missing
                ready += [folder] * (not missing)
        except RunFolderError as error:
            print(f"lwspec: {error}", file=sys.stderr)
            waiting = True
    clock = Clock(len(ready))
    going = [Going(folder, stop, clock) for folder in ready]
    _work_on(going)
    return not waiting and all(each.outcome == "finished" for each in going)


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
    asked = {each: ask for each in going if (ask := each.go_on(None)) is not None}
    while asked:
        from lwspec.kernels.receiver_pass import answer  # not before a job has imported torch

        told, together = answer(list(asked.values()), together)
        asked = {
            each: ask
            for each, said in zip(asked, told, strict=True)
            if (ask := each.go_on(said)) is not None
        }


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    raise SystemExit(main(sys.argv[1:]))
