"""An attempt from the inside: events, progress, when to stop, and the outputs that it offers."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from lwspec.engine.job import Job
from lwspec.engine.runs.attempt import AttemptFolder
from lwspec.engine.runs.checksum import sha256_once
from lwspec.engine.runs.runfolder import JobFolder, Runs

PROGRESS_EVERY_S = 1.0
CHECKPOINT_EVERY_S = 120.0
CHEAP_S = 1.0
"""A checkpoint that is written faster is worth it after every epoch."""
TIMES_ITS_COST = 20
"""The least time between dear checkpoints, so that work stands still for a twentieth at most."""


class Stopped(Exception):
    """The job ends before its work does; everything that it can resume from is on disk."""

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


@dataclass
class StopFlag:
    """Set by a signal, read between steps: nothing is interrupted half-way."""

    number: int | None = None

    def listen(self) -> None:
        """Answer SIGTERM, SIGINT and SIGUSR2 (SLURM's warning) by setting the flag."""
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            signal.signal(name, self._set)

    def _set(self, number: int, frame: FrameType | None) -> None:
        self.number = number


@dataclass
class Clock:
    """The time that a process takes, in equal shares of the jobs that it began together."""

    jobs: int = 1
    """How many of them still go on."""
    since: float = field(default_factory=time.monotonic)
    """When one of them ended last, or all began."""
    share_s: float = 0.0
    """Of each, until then."""

    def own_s(self) -> float:
        """The share until now of a job that still goes on."""
        return self.share_s + (time.monotonic() - self.since) / self.jobs

    def leave(self) -> None:
        """One of them has ended: what comes is shared by the others."""
        if self.jobs > 1:
            self.share_s, self.since = self.own_s(), time.monotonic()
            self.jobs -= 1


@dataclass
class Attempt:
    """What a kernel holds while it works on one job."""

    job: Job
    folder: AttemptFolder
    runs: Runs
    stop: StopFlag
    allowance_s: float
    spent_before_s: float = 0.0
    """What earlier attempts spent of the allowance since it was granted."""
    clock: Clock = field(default_factory=Clock)
    commits: dict[str, str | None] = field(default_factory=dict)
    """What was read from a hub, and at which commit: a revision such as `main` moves."""
    _last_progress: float = 0.0
    _last_checkpoint: float = field(default_factory=time.monotonic)
    _checkpoint_took_s: float = 0.0

    @property
    def path(self) -> Path:
        """Where its files lie."""
        return self.folder.path

    @property
    def job_folder(self) -> JobFolder:
        """The job's folder, with the other attempts."""
        return self.runs.folder(self.job.id)

    def input(self, role: str) -> JobFolder:
        """The folder of the job that made an input."""
        return self.runs.folder(self.job.inputs[role])

    def owed(self) -> list[str]:
        """The outputs that nobody has finished yet."""
        return self.job_folder.owed(self.job.outputs)

    def event(self, kind: str, **fields: Any) -> None:
        """Add a line to events.jsonl."""
        self.folder.append_event(kind, **fields)

    def progress(self, done: int, total: int, what: str) -> None:
        """Say how far the work is; at most once a second reaches the disk."""
        now = time.monotonic()
        if now - self._last_progress >= PROGRESS_EVERY_S or done == total:
            self._last_progress = now
            spent_s = self.device_s()  # which is all that is known of it where it is killed
            self.event("progress", done=done, total=total, what=what, device_s=spent_s)

    @property
    def side_by_side(self) -> int:
        """How many jobs this process works on together."""
        return self.clock.jobs

    @property
    def varies(self) -> str | None:
        """Why the same job may end with other digits on this machine; None where it cannot."""
        if self.job.kind == "latency":
            return "it measures time"
        if self.side_by_side > 1:
            others = self.side_by_side - 1
            fits = "1 other fit" if others == 1 else f"{others} other fits"
            return f"its sums were made in passes that {fits} shared"
        if self.job.compiled:
            return "compiled and recorded passes have room for what the process ran before it"
        return None

    def device_s(self) -> float:
        """Device seconds of this attempt so far: its share, where jobs run side by side."""
        return self.clock.own_s() * self.job.charge

    def why_stop(self) -> Stopped | None:
        """The reason to stop at this step, if there is one."""
        if self.stop.number is not None:
            return Stopped("stopped", f"asked to stop by {signal.Signals(self.stop.number).name}")
        spent_s = self.clock.own_s() * self.job.weight
        if self.spent_before_s + spent_s > self.allowance_s:
            unit = "device seconds" if self.job.charge else "seconds"
            return Stopped(
                "allowance",
                f"spent its allowance of {self.allowance_s:.0f} {unit}: lwspec retry grants more, "
                "as far as the budget reaches",
            )
        return None

    def check(self) -> None:
        """Stop here if asked to: for work that has nothing to save half-way."""
        reason = self.why_stop()
        if reason is not None:
            raise reason

    def checkpoint_due(self, *, epoch_ends: bool = False) -> bool:
        """Whether a checkpoint is worth what it takes, at the end of an epoch or within it."""
        dear_s = TIMES_ITS_COST * self._checkpoint_took_s * self.side_by_side
        if epoch_ends:
            least_s = 0.0 if self._checkpoint_took_s < CHEAP_S else dear_s
        else:
            least_s = max(CHECKPOINT_EVERY_S, dear_s)
        return time.monotonic() - self._last_checkpoint >= least_s

    def checkpoint_written(self, took_s: float) -> None:
        """A checkpoint was written, for which the work stood still so long."""
        self._last_checkpoint = time.monotonic()
        self._checkpoint_took_s = took_s

    def take(
        self,
        output: str,
        files: list[Path],
        metrics: Mapping[str, float | None],
        facts: Mapping[str, Any],
    ) -> None:
        """Offer a finished output: its files by hash, its numbers, and what else is to be known."""
        record = {
            "files": {str(path.relative_to(self.path)): sha256_once(path) for path in files},
            "metrics": dict(metrics),
            "facts": {**facts, **({"commits": self.commits} if self.commits else {})},
            "finished_at": time.time(),
        }
        taken = self.job_folder.take(self.folder, output, record)
        self.event("output", output=output, taken=taken, metrics=record["metrics"])
        self._log(output, metrics)

    def _log(self, output: str, metrics: Mapping[str, float | None]) -> None:
        """A line for people, a job's epochs at most: straight to the file, from any thread."""
        numbers = [f"{name} {value:.4g}" for name, value in metrics.items() if value is not None]
        line = f"{output} after {self.clock.own_s():.1f} s"
        with (self.path / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"{line}: {', '.join(numbers)}\n" if numbers else f"{line}\n")
