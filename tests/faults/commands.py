"""Commands of `lwspec` in processes forked from one that has imported it: a tenth of a second each.

Jobs are forked likewise, by the executor in the command's process. What they print, how they end
and which faults struck is what a test is told.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from faults import fake_work
from faults.inject import Fault, Injector

from lwspec.cli import slurm
from lwspec.engine.executors import allocation, child, local
from lwspec.engine.runs import evidence, life
from lwspec.kernels.arms import all_arms
from lwspec.kernels.attempt import Attempt

LONGEST_S = 120.0
CLUSTER = Path(__file__).with_name("cluster")
"""Programs in the place of SLURM's: they keep what they are given in files."""
DOUBT_S = 0.2
"""How long an sbatch may be under way."""
TRACEBACK = 99
"""The exit status of a command that ended in a traceback."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    """Negative: the signal that killed it."""
    printed: str
    struck: tuple[dict[str, Any], ...]
    steps: int = 0
    """How many the command itself took, where it was not killed."""


def warm(real: bool = False) -> None:
    """Import what commands and jobs import, before they are forked."""
    for verb in ("plan", "submit", "status", "retry", "cancel"):
        import_module(f"lwspec.cli.{verb}")
    import_module("lwspec.kernels.run")
    all_arms()
    if real:
        import_module("lwspec.kernels.preload")
    evidence.source_files()
    evidence.packages()
    evidence.git_state(evidence.PACKAGE.parent)


def command(
    folder: Path,
    control: Path,
    arguments: Sequence[str],
    faults: Sequence[Fault] = (),
    real: bool = False,
) -> Ended:
    """Run one command in a project; with `real`, its jobs do what jobs do."""
    ledger, printed = control / "faults.jsonl", control / "printed.txt"
    ledger.unlink(missing_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _become(folder, control, printed, arguments, faults, real)
    status = _wait(pid, arguments)
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    events = [json.loads(line) for line in lines]
    struck = tuple(event for event in events if event["kind"] == "fault")
    steps = sum(event["count"] for event in events if event["kind"] == "steps")
    return Ended(status, printed.read_text(errors="replace"), struck, steps)


def _wait(pid: int, arguments: Sequence[str]) -> int:
    deadline = time.monotonic() + LONGEST_S
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise TimeoutError(f"lwspec {' '.join(arguments)} hangs")
        time.sleep(0.005)


def _become(
    folder: Path,
    control: Path,
    printed: Path,
    arguments: Sequence[str],
    faults: Sequence[Fault],
    real: bool,
) -> None:
    """In the forked process: be the command, and never return."""
    status = TRACEBACK
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.chdir(folder)
        output = os.open(printed, os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_WRONLY)
        for stream, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
            os.dup2(file, stream)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        injector = Injector(folder, control, faults)
        _replace_parts(injector, control / "truth.jsonl", real)
        injector.install()
        status = _run(list(arguments))
        injector.log("steps", count=injector.count)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _run(arguments: list[str]) -> int:
    """A verb of the command line, or what SLURM starts: `allocation SUBMISSION ELEMENT`."""
    if arguments[0] == "allocation":
        os.environ["SLURM_ARRAY_TASK_ID"] = arguments[2]
        return allocation.main(arguments[1:2])
    from lwspec.cli import main

    return main(arguments)


def _replace_parts(injector: Injector, truth: Path, real: bool) -> None:
    """Fork jobs from the command itself, and write down what they finish as they do it."""
    context = multiprocessing.get_context("fork")

    def job(*arguments: Any) -> None:
        injector.start_job()
        child._run(*arguments)

    def start_child(
        folders: Sequence[str], environment: dict[str, str], log: Path, forked: bool
    ) -> BaseProcess:
        injector.process += 1
        arguments = (tuple(folders), dict(environment), log)
        process = context.Process(target=job, args=arguments, daemon=True)
        process.start()
        return process

    local.start_child = start_child  # type: ignore[assignment]
    os.environ["LWSPEC_FAULT_CLUSTER"] = str(injector.control)
    os.environ["PATH"] = f"{CLUSTER}:{os.environ['PATH']}"
    life.SBATCH_S = slurm.SBATCH_S = DOUBT_S
    if not real:
        local.POLL_S = 0.03
        sys.modules["lwspec.kernels.work"] = fake_work
    _witness(truth)


def _witness(truth: Path) -> None:
    """Write each output that a job finished, and each that was taken, to a file of the test's."""
    opens, writes, syncs, take = os.open, os.write, os.fsync, Attempt.take

    def say(what: str, attempt: Attempt, output: str, **more: Any) -> None:
        line = {"what": what, "job": attempt.job.id, "output": output, **more}
        file = opens(truth, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        writes(file, (json.dumps({**line, "attempt": attempt.folder.number}) + "\n").encode())
        syncs(file)
        os.close(file)

    def witnessed(attempt: Attempt, output: str, files: Any, metrics: Any, facts: Any) -> None:
        say("finished", attempt, output, metrics=dict(metrics))
        take(attempt, output, files, metrics, facts)
        say("taken", attempt, output)

    Attempt.take = witnessed  # type: ignore[method-assign]
