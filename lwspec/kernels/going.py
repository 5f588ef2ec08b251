"""One attempt at a job from its beginning to its exit record, which says how it ended.

Every way in which a job can end is written to its attempt's exit.json, except for death by
SIGKILL, whose mark is that there is none.
"""

from __future__ import annotations

import os
import resource
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lwspec.engine.job import Job
from lwspec.engine.redact import redact
from lwspec.engine.runs import evidence
from lwspec.engine.runs.attempt import CODE_DIFF
from lwspec.engine.runs.checksum import sha256_of
from lwspec.engine.runs.jsonfile import write_json
from lwspec.engine.runs.process import this_process
from lwspec.engine.runs.runfolder import JobFolder, Runs
from lwspec.errors import LwspecError
from lwspec.kernels.attempt import Attempt, Clock, StopFlag, Stopped

if TYPE_CHECKING:
    from lwspec.kernels.training.receiver_pass import Ask, Steps, Told


SAID = ("started.json", "events.jsonl", CODE_DIFF)
"""What an attempt says of itself beside its outputs: exit.json holds their hashes."""


class Going:
    """A job that is worked on: its attempt, and where its work stands."""

    def __init__(self, folder: JobFolder, stop: StopFlag, clock: Clock) -> None:
        """Begin an attempt; `clock` is shared by those that this process works on together."""
        self._record = folder.record()
        job, runs = Job.from_json(self._record), Runs(folder.path.parent)
        spent_s = folder.spent_s()
        self.attempt = Attempt(
            job, folder.begin_attempt(), runs, stop, self._record["allowance_s"], spent_s, clock
        )
        clock.jobs += 1
        self._steps: Steps | None = None
        self.outcome: str | None = None
        """How it ended; None while it goes on."""

    def go_on(self, told: Told | Exception | None) -> Ask | None:
        """Work until the receiver is needed, or to the end: then None.

        `told` is what came of the last question, None before the first.
        """
        with _log_to(self.attempt.path / "log.txt"):
            try:
                return self._next(told)
            except StopIteration:
                self._end("finished", None)
            except Stopped as stopped:
                self._end(stopped.outcome, str(stopped))
            except LwspecError as error:
                self._fail(error.failure_class, str(error))
            except OSError as error:
                full = error.errno in (28, 122)
                self._fail("disk" if full else "code", f"{type(error).__name__}: {error}")
            except MemoryError as error:
                self._fail("out of host memory", str(error))
            except Exception as error:
                self._fail(*_unforeseen(error))
        return None

    def _next(self, told: Told | Exception | None) -> Ask:
        if self._steps is None:
            _write_started(self.attempt, self._record)
            if self.attempt.job_folder.cancelled():  # by a person who found no process to stop
                raise Stopped("stopped", "cancelled before it began")
            evidence.check_code(self._record.get("code"))
            self.attempt.job_folder.check_identity()
            from lwspec.kernels.work import work

            self._steps = work(self.attempt)
            return next(self._steps)
        if isinstance(told, Exception):
            return self._steps.throw(told)
        assert told is not None
        return self._steps.send(told)

    def _fail(self, outcome: str, message: str) -> None:
        traceback.print_exc()
        self._end(outcome, message)

    def _end(self, outcome: str, message: str | None) -> None:
        if message is not None:  # half a character, of a file's name or a row, is no text
            message = message.encode("utf-8", "replace").decode()
        self.outcome = outcome
        self._steps = None  # what it held in memory
        _write_exit(self.attempt, outcome, message)
        self.attempt.clock.leave()


def _unforeseen(error: Exception) -> tuple[str, str]:
    """The class of an exception that nobody foresaw, and what it says."""
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which this module does not import
        return "out of memory", str(error)
    # safetensors reports a full disk as an error of its own.
    return "disk" if "os error 28" in str(error) else "code", f"{type(error).__name__}: {error}"


def _write_started(attempt: Attempt, record: dict[str, Any]) -> None:
    mine, job = attempt.folder, attempt.job
    code = evidence.git_state(evidence.PACKAGE.parent)
    if code["diff"]:
        patch = code["diff"].encode(errors="surrogateescape")
        (mine.path / CODE_DIFF).write_bytes(patch)
    write_json(
        mine.path / "started.json",
        {
            "job": mine.job,
            "started_at": time.time(),
            "spec": record["spec"],
            "charge": job.charge,
            "modelled_s": record["modelled_s"],
            "evidence": {
                **evidence.machine(),
                **_accelerator(job),
                "process": this_process(),
                "command": record["command"],
                "code": evidence.code_digest(),
                "submitted_code": record.get("code"),
                "git_sha": code["git_sha"],
                "dirty": code["dirty"],
                "packages": evidence.packages(),
                "source_files": evidence.source_files(),
                "threads": job.threads,
                "side_by_side": attempt.side_by_side,
                "compiled": job.compiled,
                "deterministic": attempt.varies is None,
                "varies": attempt.varies,
                "cost_version": record["cost_version"],
                "seed": job.settings.get("seed"),
                "places": dict(job.places),
                "remote_code": job.remote_code,
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
    attempt.event("finished" if outcome == "finished" else "failed", outcome=outcome)
    attempt.folder.end(
        {
            "outcome": outcome,
            "message": message
            and redact(message).replace("\0", r"\0"),  # which some databases lack
            "ended_at": time.time(),
            "wall_s": attempt.clock.own_s(),
            "device_s": attempt.device_s(),
            "peak_bytes": _peak_bytes(attempt.job),
            "allowance_s": attempt.allowance_s,
            "files": {
                name: sha256_of(attempt.path / name)
                for name in SAID
                if (attempt.path / name).exists()
            },
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
