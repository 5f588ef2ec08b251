"""What runs inside a SLURM allocation: `python -m lwspec.engine.executors.allocation SUBMISSION`.

It runs one pack as the local executor does, in child processes, gives signs of life, and passes
SLURM's warning on; jobs save a checkpoint, and the allocation asks to be started again.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from lwspec.engine.executors.again import again
from lwspec.engine.executors.local import LocalExecutor, Slots, Tick, gpu_ids
from lwspec.engine.executors.slurm.queue import squeue, this_user
from lwspec.engine.executors.slurm.submission import Submission
from lwspec.engine.job import Job
from lwspec.engine.modes import keep_the_world_out
from lwspec.engine.plan.pack import Pack
from lwspec.engine.redact import is_secret, redact_stream
from lwspec.engine.runs.evidence import check_code
from lwspec.engine.runs.jsonfile import read_json, write_json
from lwspec.engine.runs.life import BEAT_S, REQUEUED
from lwspec.engine.runs.process import this_process
from lwspec.engine.runs.runfolder import JobFolder, Runs
from lwspec.engine.spec.spec import Retries
from lwspec.errors import LwspecError

SIGNALS = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)
"""SLURM's warning before the end of the time or a preemption, and its word to end now."""


def main(arguments: Sequence[str]) -> int:
    """Run the pack that this element of the array stands for; 0 when it owes nothing more."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until somebody listens to them
    keep_the_world_out()
    submission = Path(arguments[0])
    intent = read_json(submission / "intent.json")
    element = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
    stem = _start(submission, element)
    outcome = "failed"
    try:
        check_code(intent["code"])
        outcome = _run(submission, intent, element, submission / f"{stem}.beat")
    finally:
        write_json(submission / f"{stem}.ended.json", {"outcome": outcome, "ended_at": time.time()})
    if outcome == REQUEUED:
        # Fails where SLURM has requeued it by itself, or may not: `submit` then goes on with it.
        subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], timeout=60)
    return 0 if outcome == "finished" else 1


def _start(submission: Path, element: int) -> str:
    """Say that this element starts; the stem of its marks, which no other start has."""
    start = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    while True:
        stem = f"{element}.{start}"
        path = submission / f"{stem}.started.json"
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            start += 1
            continue
        slurm = {
            key: value
            for key, value in os.environ.items()
            if key.startswith("SLURM_") and not is_secret(key)  # SLURM_JWT is one
        }
        write_json(path, {"host": socket.gethostname(), "process": this_process(), "slurm": slurm})
        return stem


def _run(path: Path, intent: Mapping[str, Any], element: int, beat: Path) -> str:
    """Run the pack until it owes nothing, fails, or is asked to stop; how it ended."""
    runs, submission = Runs(path.parent.parent), Submission(path, intent)
    jobs = tuple(runs.folder(job).job() for job in intent["packs"][element]["jobs"])
    retries = Retries.model_validate(intent["retries"])
    if submission.given_up(runs, [job.id for job in jobs]):
        return "superseded"
    owing = tuple(job for job in jobs if _may_run(runs.folder(job.id), job, retries))
    if not owing:
        return _outcome(runs, jobs, owing, warned=False, stopped=False)
    pack = Pack(intent["packs"][element]["id"], owing)
    slots = Slots(max(job.threads for job in jobs), gpu_ids())
    executor = LocalExecutor(runs, [pack], slots, float("inf"), retries, fork=False)
    warned = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal warned
        warned |= number == signal.SIGUSR2
        if not executor.stopped:  # a second signal would kill what is saving its checkpoint
            executor.stop()

    for number in SIGNALS:
        signal.signal(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    last_beat = 0.0

    def observe(tick: Tick) -> None:
        nonlocal last_beat
        if time.monotonic() - last_beat > BEAT_S:
            last_beat = time.monotonic()
            beat.touch()

    executor.run(observe)
    left = [job for job in owing if _may_run(runs.folder(job.id), job, retries)]
    return _outcome(runs, jobs, left, warned=warned, stopped=executor.stopped)


def _may_run(folder: JobFolder, job: Job, retries: Retries) -> bool:
    """Whether a job owes something, was not taken back, and has not failed too often."""
    owes = bool(folder.owed(job.outputs))
    return owes and not folder.cancelled() and again(folder.outcomes(), retries)


def _outcome(
    runs: Runs, jobs: Sequence[Job], left: Sequence[Job], *, warned: bool, stopped: bool
) -> str:
    """How a pack ended, of which the jobs in `left` could go on."""
    if not any(runs.folder(job.id).owed(job.outputs) for job in jobs):
        return "finished"
    if left and (warned or (stopped and _still_runs())):
        return REQUEUED
    return "stopped" if stopped else "failed"


def _still_runs() -> bool:
    """Whether SLURM says that this allocation runs: it is preempted with a grace, not cancelled."""
    listed = squeue([this_user()]) or []
    mine = f"{os.environ.get('SLURM_ARRAY_JOB_ID')}_{os.environ.get('SLURM_ARRAY_TASK_ID')}"
    return any(row.id == mine and row.state == "RUNNING" for row in listed)


if __name__ == "__main__":
    redact_stream(sys.stdout)
    redact_stream(sys.stderr)
    try:
        raise SystemExit(main(sys.argv[1:]))
    except LwspecError as error:
        print(f"lwspec: {error}", file=sys.stderr)
        raise SystemExit(error.exit_status) from None
