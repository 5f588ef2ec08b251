"""Run jobs by their folders, one after the other: `python -m lwspec.kernels.run runs/fit-3f9c...`.

This is what executors start and what a person may type. Every way in which a job can end is
written to its attempt's exit.json, except for death by SIGKILL, whose mark is that there is none.
"""

from __future__ import annotations

import logging
import os
import resource
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
from lwspec.engine.runfolder import JobFolder, Runs, write_json
from lwspec.errors import LwspecError, RunFolderError
from lwspec.kernels.attempt import Attempt, StopFlag, Stopped


def main(arguments: Sequence[str]) -> int:
    """Run each job whose inputs are there; 1 if any failed."""
    if not arguments:
        print("usage: python -m lwspec.kernels.run JOB_FOLDER ...", file=sys.stderr)
        return 2
    stop = StopFlag()
    stop.listen()
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
    if not folder.owed(job.outputs):
        return True
    for role, source in job.inputs.items():
        if runs.folder(source).owed(job.reads[role]):
            print(f"lwspec: {job.label} waits for {source}", file=sys.stderr)
            return False
    spent = folder.spent_s()
    mine = folder.begin_attempt()
    with _log_to(mine.path / "log.txt"):
        attempt = Attempt(job, mine, runs, stop, record["allowance_s"], spent)
        outcome, message = _outcome(attempt, record)
        _write_exit(attempt, outcome, message)
    return outcome == "finished"


def _outcome(attempt: Attempt, record: dict[str, Any]) -> tuple[str, str | None]:
    """Do the work; how it ended, and what there is to say of it."""
    try:
        _write_started(attempt, record)
        from lwspec.kernels.work import work

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
        return "out of host memory", str(error)
    except Exception as error:
        traceback.print_exc()
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which this module does not import
            return "out of memory", str(error)
        # safetensors reports a full disk as an error of its own.
        return "disk" if "os error 28" in str(error) else "code", f"{type(error).__name__}: {error}"
    return "finished", None


def _write_started(attempt: Attempt, record: dict[str, Any]) -> None:
    mine, job = attempt.folder, attempt.job
    code = evidence.git_state(evidence.PACKAGE.parent)
    if code["diff"]:
        (mine.path / "code.diff").write_text(code["diff"], encoding="utf-8")
    write_json(
        mine.path / "started.json",
        {
            "started_at": time.time(),
            "spec": record["spec"],
            "charge": job.charge,
            "modelled_s": record["modelled_s"],
            "evidence": {
                **evidence.machine(),
                **_accelerator(job),
                "process": this_process(),
                "command": record["command"],
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
    if job.gpus and "torch" in sys.modules:
        import torch

        return sum(torch.cuda.max_memory_allocated(n) for n in range(torch.cuda.device_count()))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


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


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    raise SystemExit(main(sys.argv[1:]))
