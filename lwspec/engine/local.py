"""The local executor: packs as child processes, as many at once as the machine has slots.

There is no daemon: the executor lives as long as the command that started it. A child is told to
stop when its parent dies, saves a checkpoint, and the next `submit` goes on from there.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from lwspec.engine.child import start_child
from lwspec.engine.job import Job
from lwspec.engine.pack import Pack
from lwspec.engine.process import lives
from lwspec.engine.runfolder import Runs
from lwspec.engine.states import STOPPED
from lwspec.engine.submit import write_allocation
from lwspec.errors import RunFolderError, UsageError

MOST_STARTS = 4
"""How often a pack is started: once, and again after its process was killed from outside."""

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
    process: BaseProcess
    gpus: tuple[str, ...]
    started_at: float = field(default_factory=time.time)


@dataclass(frozen=True)
class Tick:
    """What an observer is shown, several times a second."""

    jobs: int
    done: int
    failed: int
    running: tuple[Running, ...]


class LocalExecutor:
    """Runs packs here until none is left, none can start, or it is asked to stop."""

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
        self._stops_wanted = 0
        self._stops_sent = 0
        self.over_budget = False

    @property
    def stopped(self) -> bool:
        """Whether it was asked to stop by somebody else than the budget."""
        return self._stops_wanted > self.over_budget

    def check_fits(self) -> None:
        """Raise UsageError for a job that asks for more than this machine has."""
        for pack in self._waiting:
            gpus = max(job.gpus for job in pack.jobs)
            if gpus > self._slots.gpus:
                raise UsageError(
                    f"{pack.label} asks for {gpus} GPU; this machine has {self._slots.gpus}",
                    remedy="run it on a machine with GPUs, or set resources = { gpus = 0 } "
                    "in the spec",
                )
            if _cpus(pack) > self._slots.cpus:
                raise UsageError(
                    f"{pack.label} asks for {_cpus(pack)} threads; "
                    f"this machine has {self._slots.cpus}",
                    remedy="lower resources.threads in the spec",
                )

    def run(self, observe: Callable[[Tick], None]) -> None:
        """Run everything that can be run."""
        self._wait_for_orphans()
        while True:
            self._reap()
            self._mind_the_budget()
            self._pass_on_stops()
            if not self._stops_wanted:
                self._start_what_can()
            observe(self._tick())
            if not self._running:
                return
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Ask every child to save a checkpoint and end; asked again, kill them.

        Safe in a signal handler: the loop does the work.
        """
        self._stops_wanted += 1

    def _pass_on_stops(self) -> None:
        if self._stops_sent < self._stops_wanted:
            number = signal.SIGKILL if self._stops_sent else signal.SIGTERM
            self._stops_sent = self._stops_wanted
            for running in self._running:
                _send(running.process, number)

    def _mind_the_budget(self) -> None:
        """Stop at a checkpoint once what has run and what runs have spent what was left."""
        running_s = sum(
            (time.time() - running.started_at) * _charge(running.pack) for running in self._running
        )
        if running_s > self._seconds_left and not self._stops_wanted:
            self.over_budget = True
            self.stop()

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

    def _start_what_can(self) -> None:
        for pack in list(self._waiting):
            if self._startable(pack):
                self._waiting.remove(pack)
                self._start(pack)

    def _startable(self, pack: Pack) -> bool:
        used = sum(_cpus(running.pack) for running in self._running)
        crowded = bool(self._running) and _alone(pack)
        return (
            not crowded
            and not any(_alone(running.pack) for running in self._running)
            and used + _cpus(pack) <= self._slots.cpus
            and max(job.gpus for job in pack.jobs) <= len(self._free_gpus)
            and not any(
                self._runs.folder(source).owed(outputs) for source, outputs in pack.waits_for()
            )
        )

    def _start(self, pack: Pack) -> None:
        gpus = tuple(self._free_gpus[: max(job.gpus for job in pack.jobs)])
        self._free_gpus = self._free_gpus[len(gpus) :]
        allocation = write_allocation(self._runs, pack, "local")
        environment = {
            "OMP_NUM_THREADS": str(_cpus(pack)),
            "TOKENIZERS_PARALLELISM": "false",
            "CUDA_VISIBLE_DEVICES": ",".join(gpus),
        }
        folders = [str(self._runs.folder(job.id).path) for job in pack.jobs]
        log = allocation.with_suffix(".log")
        process = start_child(folders, environment, log, forked=not gpus)
        self._starts[pack.id] = self._starts.get(pack.id, 0) + 1
        self._running.append(Running(pack, process, gpus))

    def _reap(self) -> None:
        for running in list(self._running):
            if running.process.is_alive():
                continue
            self._running.remove(running)
            self._free_gpus += running.gpus
            wall_s = time.time() - running.started_at
            self._seconds_left -= wall_s * _charge(running.pack)
            self._settle(running.pack)

    def _settle(self, pack: Pack) -> None:
        """After a process ended: note failures, and start again what was only interrupted."""
        missing = [job for job in pack.jobs if not self._done(job)]
        for job in missing:
            if self._failed & set(job.inputs.values()) or not self._was_interrupted(job):
                self._failed.add(job.id)
        rest = tuple(job for job in missing if job.id not in self._failed)
        if rest and not self._stops_wanted:
            if self._starts[pack.id] < MOST_STARTS:
                self._waiting.insert(0, Pack(pack.id, rest))
            else:
                self._failed.update(job.id for job in rest)

    def _was_interrupted(self, job: Job) -> bool:
        """Killed from outside, or never reached because the process was."""
        attempts = self._runs.folder(job.id).attempts()
        try:
            ended = attempts[-1].ended() if attempts else None
        except RunFolderError:
            return False
        return ended is None or ended["outcome"] in (STOPPED, "finished")

    def _done(self, job: Job) -> bool:
        if job.id not in self._finished and not self._runs.folder(job.id).owed(job.outputs):
            self._finished.add(job.id)
        return job.id in self._finished

    def _tick(self) -> Tick:
        done = sum(self._done(job) for job in self._jobs)
        return Tick(len(self._jobs), done, len(self._failed), tuple(self._running))


def _send(process: BaseProcess, number: signal.Signals) -> None:
    """Signal a process that still runs."""
    if process.is_alive():
        assert process.pid is not None
        os.kill(process.pid, number)


def _alone(pack: Pack) -> bool:
    """Whether a pack runs only while no other does."""
    return any(job.alone for job in pack.jobs)


def _cpus(pack: Pack) -> int:
    """Slots that a pack's process holds."""
    return max(job.threads for job in pack.jobs)


def _charge(pack: Pack) -> int:
    """Units of the budget that a pack's process holds."""
    return max(job.charge for job in pack.jobs)


@contextmanager
def only_one(runs: Path) -> Iterator[None]:
    """Hold the folder's lock, which the kernel drops when the process dies."""
    runs.mkdir(parents=True, exist_ok=True)
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
