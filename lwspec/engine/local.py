"""The local executor: packs as child processes, as many at once as the machine has slots.

There is no daemon: the executor lives as long as the command that started it. A child is told to
stop when its parent dies, saves a checkpoint, and the next `submit` goes on from there.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lwspec.engine.job import Job
from lwspec.engine.pack import Pack
from lwspec.engine.process import lives
from lwspec.engine.runfolder import Runs, read_json, write_json
from lwspec.engine.states import RESUMABLE
from lwspec.engine.submit import command_of, write_allocation
from lwspec.errors import UsageError

MOST_RESTARTS = 3
"""How often a pack is started again after its process was killed from outside."""

POLL_S = 0.1
STOP_WAIT_S = 60.0


@dataclass(frozen=True)
class Slots:
    """What this machine can run at once."""

    cpus: int
    gpus: int

    @staticmethod
    def of_this_machine() -> Slots:
        """The CPUs that this process may use, and the GPUs that CUDA_VISIBLE_DEVICES leaves."""
        return Slots(len(os.sched_getaffinity(0)), len(_gpu_ids()))


def _gpu_ids() -> list[str]:
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [gpu for gpu in listed.split(",") if gpu.strip()]
    return [str(n) for n in range(len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))]


@dataclass
class Running:
    """A pack whose process runs."""

    pack: Pack
    process: subprocess.Popen[bytes]
    allocation: Path
    gpus: tuple[str, ...]
    started_at: float = field(default_factory=time.time)

    @property
    def cpus(self) -> int:
        """Slots that it holds."""
        return max(job.threads for job in self.pack.jobs)


@dataclass(frozen=True)
class Tick:
    """What an observer is shown, several times a second."""

    jobs: int
    done: int
    failed: int
    running: tuple[Running, ...]


class LocalExecutor:
    """Runs packs here until none is left, or until `stop` is called."""

    def __init__(self, runs: Runs, packs: Sequence[Pack], budget_hours: float) -> None:
        self._runs = runs
        self._waiting = list(packs)
        self._jobs = [job for pack in packs for job in pack.jobs]
        self._slots = Slots.of_this_machine()
        self._free_gpus = _gpu_ids()
        self._running: list[Running] = []
        self._starts: dict[str, int] = {}
        self._failed: set[str] = set()
        self._finished: set[str] = set()
        self._seconds_left = budget_hours * 3600
        self._stopping = False
        self.over_budget = False

    def run(self, observe: Callable[[Tick], None]) -> bool:
        """Run everything; True when every job was done."""
        self._check_fits()
        with _only_one(self._runs.path):
            self._wait_for_orphans()
            while self._running or (self._waiting and not self._stopping):
                self._start_what_can()
                self._reap()
                observe(self._tick())
                if not self._running and not self._can_start():
                    break
                time.sleep(POLL_S)
        return all(self._done(job) for job in self._jobs)

    def stop(self) -> None:
        """Ask every child to save a checkpoint and end; a second call kills them."""
        number = signal.SIGKILL if self._stopping else signal.SIGTERM
        self._stopping = True
        for running in self._running:
            running.process.send_signal(number)

    def _check_fits(self) -> None:
        for pack in self._waiting:
            gpus = max(job.gpus for job in pack.jobs)
            cpus = max(job.threads for job in pack.jobs)
            if gpus > self._slots.gpus:
                raise UsageError(
                    f"{pack.label} asks for {gpus} GPU; this machine has {self._slots.gpus}",
                    remedy="run it on a machine with GPUs, or set resources = { gpus = 0 } "
                    "in the spec",
                )
            if cpus > self._slots.cpus:
                raise UsageError(
                    f"{pack.label} asks for {cpus} threads; this machine has {self._slots.cpus}",
                    remedy="lower resources.threads in the spec",
                )

    def _wait_for_orphans(self) -> None:
        """Processes of an executor that was killed end by themselves: wait, then take over."""
        deadline = time.monotonic() + STOP_WAIT_S
        for job in self._jobs:
            for attempt in self._runs.folder(job.id).attempts():
                while attempt.ended() is None and lives(attempt.started().get("process")):
                    if time.monotonic() > deadline:
                        raise UsageError(
                            f"{job.label} is still being run by another process",
                            where=str(attempt.path),
                            remedy="wait for it, or end it",
                        )
                    time.sleep(POLL_S)

    def _can_start(self) -> bool:
        return not self._stopping and any(self._startable(pack) for pack in self._waiting)

    def _startable(self, pack: Pack) -> bool:
        used = sum(running.cpus for running in self._running)
        cpus = max(job.threads for job in pack.jobs)
        gpus = max(job.gpus for job in pack.jobs)
        return (
            used + cpus <= self._slots.cpus
            and gpus <= len(self._free_gpus)
            and all(self._source_done(source) for source in pack.waits_for())
        )

    def _source_done(self, source: str) -> bool:
        folder = self._runs.folder(source)
        return not folder.owed(folder.job())

    def _start_what_can(self) -> None:
        if self._stopping:
            return
        for pack in list(self._waiting):
            if self._seconds_left <= 0:
                self.over_budget = True
                self._waiting.clear()
                return
            if self._startable(pack):
                self._waiting.remove(pack)
                self._start(pack)

    def _start(self, pack: Pack) -> None:
        gpus = tuple(self._free_gpus[: max(job.gpus for job in pack.jobs)])
        self._free_gpus = self._free_gpus[len(gpus) :]
        allocation = write_allocation(self._runs, pack, "local")
        threads = str(max(job.threads for job in pack.jobs))
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "TOKENIZERS_PARALLELISM": "false",
            "CUDA_VISIBLE_DEVICES": ",".join(gpus),
            "LWSPEC_PARENT": str(os.getpid()),
        }
        with allocation.with_suffix(".log").open("ab") as log:
            process = subprocess.Popen(
                command_of(self._runs, pack.jobs),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._starts[pack.id] = self._starts.get(pack.id, 0) + 1
        self._running.append(Running(pack, process, allocation, gpus))

    def _reap(self) -> None:
        for running in list(self._running):
            code = running.process.poll()
            if code is None:
                continue
            self._running.remove(running)
            self._free_gpus += running.gpus
            wall_s = time.time() - running.started_at
            self._seconds_left -= wall_s * max(1, len(running.gpus))
            record = read_json(running.allocation)
            write_json(running.allocation, {**record, "exit_code": code, "wall_s": wall_s})
            self._settle(running.pack)

    def _settle(self, pack: Pack) -> None:
        """After a process ended: note failures, and start again what was only interrupted."""
        missing = tuple(job for job in pack.jobs if not self._done(job))
        if not missing or self._stopping:
            return
        interrupted = [job for job in missing if self._was_interrupted(job)]
        self._failed.update(job.id for job in missing if job not in interrupted)
        rest = tuple(job for job in missing if self._still_possible(job))
        if rest and self._starts[pack.id] < MOST_RESTARTS:
            self._waiting.insert(0, Pack(pack.id, rest))
        else:
            self._failed.update(job.id for job in missing)

    def _still_possible(self, job: Job) -> bool:
        return job.id not in self._failed and not self._failed & set(job.inputs.values())

    def _was_interrupted(self, job: Job) -> bool:
        """Killed from outside, or never reached because the process was."""
        attempts = self._runs.folder(job.id).attempts()
        if not attempts:
            return not self._failed & set(job.inputs.values())
        ended = attempts[-1].ended()
        return ended is None or ended["outcome"] in (*RESUMABLE, "finished")

    def _done(self, job: Job) -> bool:
        if job.id not in self._finished and not self._runs.folder(job.id).owed(job):
            self._finished.add(job.id)
        return job.id in self._finished

    def _tick(self) -> Tick:
        done = sum(self._done(job) for job in self._jobs)
        return Tick(len(self._jobs), done, len(self._failed), tuple(self._running))


@contextmanager
def _only_one(runs: Path) -> Iterator[None]:
    """Hold the folder's lock, which the kernel drops when the process dies."""
    path = runs / "local.lock"
    with path.open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise UsageError(
                f"another lwspec ({file.read().strip()}) is running jobs in {runs}",
                remedy="lwspec status --watch, or wait until it ends",
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield
