"""The local executor: packs as child processes, as many at once as the machine has slots.

There is no daemon: the executor lives as long as the command that started it. A child is told to
stop when its parent dies, saves a checkpoint, and the next `submit` goes on from there.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from lwspec.engine.executors.again import again
from lwspec.engine.executors.child import start_child
from lwspec.engine.executors.submit import write_allocation
from lwspec.engine.job import Job
from lwspec.engine.plan.pack import Pack
from lwspec.engine.runs.attempt import AttemptFolder
from lwspec.engine.runs.process import lives
from lwspec.engine.runs.runfolder import Runs
from lwspec.engine.spec.spec import Retries
from lwspec.errors import RunFolderError, UsageError

MOST_FRUITLESS = 2
"""How often in a row a pack's process may end without having begun an attempt."""

POLL_S = 0.1
STOP_WAIT_S = 60.0


@dataclass(frozen=True)
class Slots:
    """What this machine can run at once."""

    cpus: int
    gpus: tuple[str, ...]

    @staticmethod
    def of_this_machine() -> Slots:
        """The CPUs that this process may use, and its GPUs."""
        return Slots(len(os.sched_getaffinity(0)), gpu_ids())


def gpu_ids() -> tuple[str, ...]:
    """The GPUs that CUDA_VISIBLE_DEVICES names, or else all of this machine's."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return tuple(gpu for gpu in listed.split(",") if gpu.strip())
    return tuple(str(n) for n in range(len(list(Path("/proc/driver/nvidia/gpus").glob("*")))))


@dataclass
class Running:
    """A pack whose process runs."""

    pack: Pack
    process: BaseProcess
    gpus: tuple[str, ...]
    attempts_before: int
    started_at: float = field(default_factory=time.time)
    since: float = field(default_factory=time.monotonic)
    """The same by a clock that nobody sets."""


@dataclass(frozen=True)
class Tick:
    """What an observer is shown, several times a second."""

    jobs: int
    done: tuple[Job, ...]
    failed: int
    cancelled: int
    running: tuple[Running, ...]


class LocalExecutor:
    """Runs packs here until none is left, none can start, or it is asked to stop.

    With `fork`, packs without a GPU are forked from one process that has imported the libraries.
    """

    def __init__(
        self,
        runs: Runs,
        packs: Sequence[Pack],
        slots: Slots,
        budget_hours: float,
        retries: Retries,
        *,
        fork: bool,
    ) -> None:
        self._runs = runs
        self._waiting = list(packs)
        self._jobs = [job for pack in packs for job in pack.jobs]
        self._slots = slots
        self._free_gpus = slots.gpus
        self._retries = retries
        self._fork = fork
        self._running: list[Running] = []
        self._fruitless: dict[str, int] = {}
        self._failed: set[str] = set()
        self._cancelled: set[str] = set()
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
            if gpus > len(self._slots.gpus):
                raise UsageError(
                    f"{pack.label} asks for {gpus} GPU; this machine has {len(self._slots.gpus)}",
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
            (time.monotonic() - running.since) * _charge(running.pack) for running in self._running
        )
        if running_s > self._seconds_left and not self._stops_wanted:
            self.over_budget = True
            self.stop()

    def wait_for_orphans(self) -> None:
        """Processes of an executor that was killed end by themselves: wait, to take over from them.

        Raises UsageError where one does not.
        """
        deadline = time.monotonic() + STOP_WAIT_S
        for job in self._jobs:
            for attempt in self._runs.folder(job.id).attempts():
                while _goes_on(attempt):
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
                left = tuple(job for job in pack.jobs if not self._taken_back(job))
                if left:
                    self._start(Pack(pack.id, left))

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
        gpus = self._free_gpus[: max(job.gpus for job in pack.jobs)]
        self._free_gpus = self._free_gpus[len(gpus) :]
        allocation = write_allocation(self._runs, pack, "local")
        environment = {
            "OMP_NUM_THREADS": str(_cpus(pack)),
            "TOKENIZERS_PARALLELISM": "false",
            "CUDA_VISIBLE_DEVICES": ",".join(gpus),
        }
        attempts_before = self._attempts(pack)
        folders = [str(self._runs.folder(job.id).path) for job in pack.jobs]
        log = allocation.with_suffix(".log")
        process = start_child(folders, environment, log, forked=self._fork and not gpus)
        self._running.append(Running(pack, process, gpus, attempts_before))

    def _reap(self) -> None:
        for running in list(self._running):
            if running.process.is_alive():
                continue
            self._running.remove(running)
            self._free_gpus += running.gpus
            wall_s = time.monotonic() - running.since
            self._seconds_left -= wall_s * _charge(running.pack)
            self._settle(running)

    def _settle(self, running: Running) -> None:
        """After a process ended: note failures, and start again what may be tried again."""
        pack = running.pack
        owing = [job for job in pack.jobs if not self._done(job)]
        missing = [job for job in owing if not self._taken_back(job)]
        for job in missing:
            if self._failed & set(job.inputs.values()) or not self._again(job):
                self._failed.add(job.id)
        rest = tuple(job for job in missing if job.id not in self._failed)
        if self._attempts(pack) > running.attempts_before:
            self._fruitless[pack.id] = 0
        else:
            self._fruitless[pack.id] = self._fruitless.get(pack.id, 0) + 1
        if rest and not self._stops_wanted:
            if self._fruitless[pack.id] < MOST_FRUITLESS:
                self._waiting.insert(0, Pack(pack.id, rest))
            else:
                self._failed.update(job.id for job in rest)

    def _attempts(self, pack: Pack) -> int:
        return sum(len(self._runs.folder(job.id).attempts()) for job in pack.jobs)

    def _taken_back(self, job: Job) -> bool:
        """Whether a person took the job back, or an input of it; it is counted if so."""
        if self._cancelled & set(job.inputs.values()) or self._runs.folder(job.id).cancelled():
            self._cancelled.add(job.id)
        return job.id in self._cancelled

    def _again(self, job: Job) -> bool:
        """Whether the job is tried again by itself; a damaged folder is left to a person."""
        try:
            return again(self._runs.folder(job.id).outcomes(), self._retries)
        except RunFolderError:
            return False

    def _done(self, job: Job) -> bool:
        if job.id not in self._finished and not self._runs.folder(job.id).owed(job.outputs):
            self._finished.add(job.id)
        return job.id in self._finished

    def _tick(self) -> Tick:
        done = tuple(job for job in self._jobs if self._done(job))
        failed, cancelled = len(self._failed), len(self._cancelled)
        return Tick(len(self._jobs), done, failed, cancelled, tuple(self._running))


def _goes_on(attempt: AttemptFolder) -> bool:
    """Whether a process works at it; none that could be told of where its records are damaged."""
    try:
        return attempt.ended() is None and lives(attempt.process())
    except RunFolderError:
        return False


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
