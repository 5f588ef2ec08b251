"""Run jobs by their folders, one after the other: `python -m lwspec.kernels.run runs/fit-3f9c...`.

This is what executors start and what a person may type. Every way in which a job can end is
written to its attempt's exit.json, except for death by SIGKILL, whose mark is that there is none.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lwspec.engine import evidence
from lwspec.engine.job import Job
from lwspec.engine.process import this_process
from lwspec.engine.runfolder import AttemptFolder, JobFolder, Runs, write_json
from lwspec.errors import LwspecError, RunFolderError
from lwspec.kernels.attempt import Attempt, StopFlag, Stopped

PR_SET_PDEATHSIG = 1


def main(arguments: Sequence[str]) -> int:
    """Run each job whose inputs are there; 1 if any failed."""
    if not arguments:
        print("usage: python -m lwspec.kernels.run JOB_FOLDER ...", file=sys.stderr)
        return 2
    stop = StopFlag()
    stop.listen()
    _end_with_parent()
    failed = False
    for argument in arguments:
        if stop.number is not None:
            return 1
        folder = JobFolder(Path(argument))
        try:
            failed |= not run_job(folder, stop)
        except RunFolderError as error:
            print(f"lwspec: {error}", file=sys.stderr)
            failed = True
    return 1 if failed else 0


def run_job(folder: JobFolder, stop: StopFlag) -> bool:
    """One attempt at a job, unless nothing is owed; True when everything owed was delivered."""
    record = folder.record()
    job, runs = Job.from_json(record), Runs(folder.path.parent)
    if not folder.owed(job):
        return True
    for source in job.inputs.values():
        made = runs.folder(source)
        if made.owed(made.job()):
            print(f"lwspec: {job.label} waits for {source}", file=sys.stderr)
            return False
    spent = _spent_at_this_allowance(folder, record["allowance_s"])
    mine = folder.begin_attempt()
    with _log_to(mine.path / "log.txt"):
        attempt = Attempt(job, mine, runs, stop, record["allowance_s"], spent)
        _write_started(mine, job, record)
        outcome, message = _outcome(attempt)
        _write_exit(attempt, outcome, message)
    return outcome == "finished"


def _outcome(attempt: Attempt) -> tuple[str, str | None]:
    from lwspec.kernels.work import work

    try:
        work(attempt)
    except Stopped as stopped:
        return stopped.outcome, str(stopped)
    except LwspecError as error:
        traceback.print_exc()
        return error.failure_class, str(error)
    except OSError as error:
        traceback.print_exc()
        return "disk" if error.errno in (28, 122) else "code", f"{type(error).__name__}: {error}"
    except MemoryError as error:
        traceback.print_exc()
        return "out of memory", str(error)
    except Exception as error:
        traceback.print_exc()
        return "code", f"{type(error).__name__}: {error}"
    return "finished", None


def _write_started(mine: AttemptFolder, job: Job, record: dict[str, Any]) -> None:
    code = evidence.git_state(evidence.PACKAGE.parent)
    if code["diff"]:
        (mine.path / "code.diff").write_text(code["diff"], encoding="utf-8")
    write_json(
        mine.path / "started.json",
        {
            "started_at": time.time(),
            "modelled_s": record["modelled_s"],
            "evidence": {
                **evidence.machine(),
                **_accelerator(job),
                "process": this_process(),
                "command": evidence.this_command(),
                "git_sha": code["git_sha"],
                "dirty": code["dirty"],
                "packages": evidence.packages(),
                "source_files": evidence.source_files(),
                "threads": job.threads,
                "seed": job.settings.get("seed"),
                "places": dict(job.places),
            },
        },
    )
    mine.append_event("started")


def _accelerator(job: Job) -> dict[str, Any]:
    """Name and driver of the GPU, or the processor that does the work."""
    if job.gpus == 0:
        return {"hardware": evidence.machine()["cpu"], "gpu": None, "driver": None}
    import torch

    if not torch.cuda.is_available():
        return {"hardware": None, "gpu": None, "driver": None}
    properties = torch.cuda.get_device_properties(0)
    version = Path("/proc/driver/nvidia/version")
    driver = version.read_text().splitlines()[0] if version.exists() else None
    return {"hardware": properties.name, "gpu": properties.name, "driver": driver}


def _write_exit(attempt: Attempt, outcome: str, message: str | None) -> None:
    wall_s = time.monotonic() - attempt.begun
    attempt.event("finished" if outcome == "finished" else "failed", outcome=outcome)
    write_json(
        attempt.path / "exit.json",
        {
            "outcome": outcome,
            "message": message,
            "ended_at": time.time(),
            "wall_s": wall_s,
            "device_s": attempt.device_s(),
            "peak_bytes": _peak_bytes(attempt.job),
            "allowance_s": attempt.allowance_s,
        },
    )


def _peak_bytes(job: Job) -> int:
    """Peak memory of the device that did the work: the GPU's, or this process's."""
    if job.gpus:
        import torch

        return sum(torch.cuda.max_memory_allocated(n) for n in range(torch.cuda.device_count()))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _spent_at_this_allowance(folder: JobFolder, allowance_s: float) -> float:
    """Device seconds of earlier attempts under the same allowance: a new one starts from zero."""
    ended = [attempt.ended() for attempt in folder.attempts()]
    same = [exit for exit in ended if exit and exit["allowance_s"] == allowance_s]
    return sum(float(exit["device_s"]) for exit in same)


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """Send everything that this process prints, libraries included, to the attempt's log."""
    saved = os.dup(1), os.dup(2)
    sys.stdout.flush()
    sys.stderr.flush()
    with path.open("ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for target, original in enumerate(saved, start=1):
                os.dup2(original, target)
                os.close(original)


def _end_with_parent() -> None:
    """Have the kernel send SIGTERM when the executor that started this process dies."""
    parent = os.environ.get("LWSPEC_PARENT")
    if parent is None:
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    raise SystemExit(main(sys.argv[1:]))
