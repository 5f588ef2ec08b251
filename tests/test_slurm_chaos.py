"""Random faults while a plan runs, then quiet: the plan completes, with nothing twice or lost."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from slurm.cluster import NODES, Cluster, running
from slurm.fixtures import SlurmProject

from lwspec.engine.runs.jsonfile import read_json

pytestmark = pytest.mark.slurm
SUBMIT = ("submit", "small.toml", "--executor", "slurm", "--yes", "--wait")


class Chaos:
    """Faults at random moments, counted."""

    def __init__(self, project: SlurmProject, seed: int, arguments: tuple[str, ...]) -> None:
        self.project, self.random, self.arguments = project, random.Random(seed), arguments
        self.faults: Counter[str] = Counter()
        self.waiting = self.submit()

    @property
    def cluster(self) -> Cluster:
        return self.project.cluster

    def submit(self) -> subprocess.Popen[str]:
        log = (self.project.folder / "submit.log").open("a")
        return self.project.start(*SUBMIT, *self.arguments, output=log)

    def element(self, state: str) -> str | None:
        lines = self.cluster.run(
            "squeue", "-h", "-r", "-t", state, "-o", "%i %P", check=False
        ).splitlines()
        mine = [line.split()[0] for line in lines if not line.endswith("high")]
        return self.random.choice(mine) if mine else None

    def scancel(self) -> bool:
        element = self.element(self.random.choice(["running", "pending"]))
        if element:
            self.cluster.run("scancel", element, check=False)
        return element is not None

    def requeue(self) -> bool:
        element = self.element("running")
        if element:
            self.cluster.run("scontrol", "requeue", element, check=False)
        return element is not None

    def kill(self, pattern: str, read: Callable[[Path], int]) -> bool:
        paths = list((self.project.folder / "runs").glob(pattern))
        self.random.shuffle(paths)
        for path in paths:
            if (path.parent / "exit.json").exists() or not path.stat().st_size:
                continue
            pid = read(path)
            if running(pid):
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    def kill_task(self) -> bool:
        return self.kill(
            "*/attempt-*/started.json",
            lambda path: int(read_json(path)["evidence"]["process"]["pid"]),
        )

    def kill_allocation(self) -> bool:
        return self.kill(
            "submissions/*/*.started.json", lambda path: int(read_json(path)["process"]["pid"])
        )

    def restart_slurmd(self) -> bool:
        node = self.random.choice(NODES)
        os.kill(self.cluster.pid(f"slurmd-{node}"), signal.SIGKILL)
        time.sleep(self.random.uniform(0.1, 2))
        self.cluster.node(node)
        return True

    def restart_slurmctld(self) -> bool:
        pid = self.cluster.pid("slurmctld")
        os.kill(pid, signal.SIGTERM)
        while running(pid):
            time.sleep(0.1)
        self.cluster.controller()
        return True

    def preempt(self) -> bool:
        self.cluster.run(
            "sbatch", "--partition", "high", "--exclusive", "--output", "/dev/null",
            "--wrap", "sleep 2", check=False,
        )  # fmt: skip
        return True

    def kill_submit(self) -> bool:
        self.waiting.kill()
        self.waiting.wait()
        self.waiting = self.submit()
        return True

    def run(self, seconds: float) -> None:
        faults = [
            *[self.scancel, self.requeue, self.kill_task, self.kill_allocation] * 4,
            self.restart_slurmd, self.restart_slurmctld, self.preempt, self.kill_submit,
        ]  # fmt: skip
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(self.random.uniform(0.5, 2.5))
            if self.waiting.poll() is not None:
                self.waiting = self.submit()
            fault = self.random.choice(faults)
            if fault():
                self.faults[fault.__name__] += 1


@pytest.mark.parametrize("real", [False, True], ids=["200 jobs", "21 real jobs"])
def test_a_plan_completes_whatever_happens(
    accounted: SlurmProject, real: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = 21 if real else 200
    accounted.real = real
    accounted.write(10 if real else 200)
    accounted.change("killed = 3", "killed = 1000")
    accounted.change('partition = "low"', 'partition = "low"\nat_once = 6')
    if real:
        accounted.change("memory_gb = 0.2", "memory_gb = 1.5")
    accounted.control(data={"seconds": 6})
    chaos = Chaos(accounted, seed=jobs, arguments=() if real else ("--only", "data*"))
    chaos.run(120 if real else 300)
    chaos.waiting.wait(timeout=900)
    if chaos.waiting.returncode:
        accounted.run(*SUBMIT, *chaos.arguments, timeout=900)
    assert accounted.counts()["done"] == jobs
    with sqlite3.connect(accounted.folder / "results.db") as connection:
        rows = list(connection.execute("SELECT job, output, attempt FROM outputs"))
        outcomes = Counter(
            outcome or "killed" for (outcome,) in connection.execute("SELECT outcome FROM attempts")
        )
    assert len(rows) == jobs
    for job, output, attempt in rows:  # what the database counts is the copy that was taken
        folder = accounted.folder / "runs" / job
        copies = list(folder.glob(f"attempt-*/outputs/{output}.json"))
        taken = folder / "taken" / f"{output}.json"
        assert [path for path in copies if path.samefile(taken)] == [
            folder / f"attempt-{attempt}" / "outputs" / f"{output}.json"
        ]
    with capsys.disabled():
        print(f"\n{jobs} jobs, all done, each recorded once")
        for name, count in sorted(chaos.faults.items()):
            print(f"  fault    {name:<20}{count:>5}")
        for name, count in sorted(outcomes.items()):
            print(f"  attempt  {name:<20}{count:>5}")
