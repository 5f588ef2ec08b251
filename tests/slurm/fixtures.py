"""A cluster for a session, and a project whose jobs are of a work without science."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from slurm.cluster import Cluster, missing, until

from lwspec.engine.runs.jsonfile import read_json

ROOT = Path(__file__).parent.parent.parent
FAKE = Path(__file__).parent / "fake"
PORTS = {True: 16700, False: 16750}

HEAD = """\
schema = 1
name = "small"

[budget]
gpu_hours = 1000.0
gpu = "cpu"

[resources]
gpus = 0

[retries]
killed = 3

[cluster.test]
partition = "low"
memory_gb = 0.2
minutes = 10
warning_s = 30

[models.llama]
toy = "llama"

[models.mistral]
toy = "mistral"
"""

TASK = """
[tasks.{name}]
kind = "classification"
data = {{ toy = "sentiment" }}
splits = {{ train = "train", validation = {{ from = "train", rows = 300 }}, test = "test" }}
sample_seed = {seed}
context = "{{text}}"
label = "label"
labels = ["negative", "positive"]
sender_prompt = "Review: {{context}}"
receiver_prompt = "Review: {{context}}"
query = "Sentiment:"
"""

TAIL = """
[[experiment]]
name = "main"
arms = ["no_message"]
sender = "llama"
receiver = "mistral"
tasks = [{tasks}]
seeds = [1]
"""


@pytest.fixture(scope="session", params=[True, False], ids=["accounting", "no accounting"])
def any_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster with accounting, then one without."""
    yield from started(request.param)


@pytest.fixture(scope="session")
def accounted_cluster() -> Iterator[Cluster]:
    """A cluster with accounting."""
    yield from started(True, port=16800)


def started(accounting: bool, port: int | None = None) -> Iterator[Cluster]:
    lacking = missing(accounting)
    if lacking:
        listed = (Path(__file__).parent / "packages.txt").read_text().split()
        pytest.fail(f"not installed: {lacking}; apt-get install {' '.join(listed)}")
    root = Path(tempfile.mkdtemp(prefix="slurm"))
    root.chmod(0o711)
    cluster = Cluster(root, port or PORTS[accounting], accounting)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()
        shutil.rmtree(root, ignore_errors=True)


class SlurmProject:
    """A folder with a spec in it, the command line run there, and what its jobs are told to do."""

    def __init__(self, folder: Path, cluster: Cluster, tasks: int = 1) -> None:
        self.folder, self.cluster = folder, cluster
        self.real = False
        (folder / "lwspec").mkdir()
        (folder / "lwspec/__init__.py").write_text("raise RuntimeError('not this one')\n")
        self.write(tasks)

    @property
    def environment(self) -> dict[str, str]:
        common = {**self.cluster.environment, "XDG_CONFIG_HOME": str(self.folder / "config")}
        common["PATH"] = f"{self.folder / 'shims'}:{common['PATH']}"
        if self.real:
            return {**common, "PYTHONPATH": str(ROOT)}
        return {
            **common,
            "PYTHONPATH": os.pathsep.join([str(FAKE), str(ROOT)]),
            "LWSPEC_TEST_CONTROL": str(self.folder / "control.json"),
        }

    def write(self, tasks: int) -> None:
        names = [f"t{n:04d}" for n in range(tasks)]
        listed = ", ".join(f'"{name}"' for name in names)
        bodies = "".join(TASK.format(name=name, seed=n) for n, name in enumerate(names))
        (self.folder / "small.toml").write_text(HEAD + bodies + TAIL.format(tasks=listed))

    def change(self, old: str, new: str) -> None:
        path = self.folder / "small.toml"
        assert old in path.read_text(), old
        path.write_text(path.read_text().replace(old, new))

    def shim(self, program: str, before: str = "", after: str = "") -> None:
        """Put a script in the place of a program of SLURM's, with shell lines around it."""
        path = self.folder / "shims" / program
        path.parent.mkdir(exist_ok=True)
        real = self.cluster.run("which", program).strip()
        path.write_text(f'#!/bin/sh\n{before}\n{real} "$@"\nstatus=$?\n{after}\nexit $status\n')
        path.chmod(0o755)

    def unshim(self) -> None:
        """Give the programs back."""
        shutil.rmtree(self.folder / "shims")

    def submissions(self) -> list[Path]:
        return sorted((self.folder / "runs/submissions").iterdir())

    def control(self, **jobs: dict[str, Any]) -> None:
        """What jobs do, by a part of their labels; `_` stands for a space."""
        table = {label.replace("_", " "): plan for label, plan in jobs.items()}
        (self.folder / "control.json").write_text(json.dumps(table))

    def start(
        self, *arguments: str, output: IO[str] | int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "lwspec", *arguments],
            cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, text=True,
        )  # fmt: skip

    def run(self, *arguments: str, status: int | None = 0, timeout: float = 300) -> str:
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert status is None or process.returncode == status, out + err
        assert "Traceback" not in err, err
        return out + err

    def submit(self, *arguments: str, status: int | None = 0) -> str:
        return self.run(
            "submit", "small.toml", "--executor", "slurm", "--yes", *arguments, status=status
        )

    def status(self) -> list[dict[str, Any]]:
        text = self.run("status", "small.toml", "--json", status=None)
        return list(json.loads(text)["jobs"])

    def counts(self) -> Counter[str]:
        return Counter(job["state"] for job in self.status())

    def state(self, label: str) -> str:
        (job,) = [job for job in self.status() if label in job["label"]]
        return str(job["state"])

    def folder_of(self, label: str) -> Path:
        (found,) = [
            path.parent
            for path in (self.folder / "runs").glob("*/job.json")
            if label in read_json(path)["label"]
        ]
        return found

    def attempts(self, label: str) -> list[dict[str, Any]]:
        """How each attempt at a job ended, as far as it said."""
        paths = sorted(self.folder_of(label).glob("attempt-*"))
        return [read_json(p / "exit.json") if (p / "exit.json").exists() else {} for p in paths]

    def slurm_id(self, label: str) -> str:
        """The id of the newest allocation of a job."""
        job, found = self.folder_of(label).name, []
        for path in (self.folder / "runs/submissions").glob("*/intent.json"):
            intent = read_json(path)
            for index, pack in enumerate(intent["packs"]):
                if job in pack["jobs"]:
                    array = read_json(path.parent / "slurm.json")["array_id"]
                    found.append((intent["intended_at"], f"{array}_{index}"))
        return str(max(found)[1])

    def until_counting(self, label: str, attempt: int = 1) -> int:
        """Wait until an attempt at a job works; its process."""
        path = self.folder_of(label) / f"attempt-{attempt}"

        def works() -> bool:
            events = path / "events.jsonl"
            return events.exists() and '"progress"' in events.read_text()

        until(works, 90)
        return int(read_json(path / "started.json")["evidence"]["process"]["pid"])


def finished(project: SlurmProject) -> list[tuple[str, int]]:
    """Every attempt that results.db says finished."""
    with sqlite3.connect(project.folder / "results.db") as connection:
        query = "SELECT job, number FROM attempts WHERE outcome = 'finished'"
        return list(connection.execute(query))


def resumed_from(project: SlurmProject, label: str = "data") -> int:
    (taken,) = (project.folder_of(label) / "taken").glob("*.json")
    return int(read_json(taken)["facts"]["resumed_from"])


@pytest.fixture
def slurm(any_cluster: Cluster, tmp_path: Path) -> Iterator[SlurmProject]:
    """A project of one task, on a cluster with accounting and on one without."""
    any_cluster.quiet()
    yield SlurmProject(tmp_path, any_cluster)
    any_cluster.quiet()


@pytest.fixture
def accounted(accounted_cluster: Cluster, tmp_path: Path) -> Iterator[SlurmProject]:
    """A project of one task, on a cluster with accounting."""
    accounted_cluster.quiet()
    yield SlurmProject(tmp_path, accounted_cluster)
    accounted_cluster.quiet()
