"""Real training of a tiny pair under faults: it ends with the bytes of one that met none."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

from faults import truth
from faults.inject import Fault
from faults.project import Project, damage
from faults.schedule import ERRORS, Outcome, outcome, seed

RETRIES = """
[retries]
killed = 1000
disk = 1000
code = 1000

[resources]
"""


class Training:
    """A plan of two fits and their evaluations, and what it ends with undisturbed."""

    def __init__(self, world: Path, spec: str) -> None:
        """`spec` trains something on what lies in `world`."""
        self.world, self.spec = world, spec.replace("[resources]\n", RETRIES, 1)
        project = self.project()
        project.finish()
        self.problems = tuple(project.problems)
        self.expected = ended_with(project)
        project.remove()

    def project(self) -> Project:
        """A fresh one."""
        project = Project()
        project.real = True
        (project.folder / "small.toml").write_text(self.spec)
        for name in ("models", "data"):
            (project.folder / name).symlink_to(self.world / name)
        return project

    def plan(self, number: int) -> Outcome:
        """Jobs meet faults while they train, and their checkpoints are damaged in between."""
        source, begun = random.Random(f"{seed()} training {number}"), time.monotonic()
        project = self.project()
        for killed in (True, False, False):
            faults = [_drawn(source, process) for process in range(1, 15)]
            if killed:
                faults.append(Fault("command", "kill", after_s=source.uniform(3.0, 20.0)))
            project.submit(*faults)
            truth.look(project)
            for path in unfinished(project.runs, source):
                project.struck.append({"do": damage(path, source), "at": "checkpoint"})
        project.finish()
        truth.check(project)
        if ended_with(project) != self.expected:
            project.problems.append("it ends with other numbers than undisturbed")
        return outcome(project, f"training {number}", begun)


def _drawn(source: random.Random, process: int) -> Fault:
    step, half = source.randint(5, 45), source.random() < 0.5
    if source.random() < 0.3:
        return Fault("job", source.choice(ERRORS), step, process, half)
    if source.random() < 0.2:
        return Fault("job", "kill", process=process, after_s=source.uniform(0.2, 2.0))
    return Fault("job", "kill", step, process, half)


def unfinished(runs: Path, source: random.Random) -> list[Path]:
    """A file of the newest checkpoint of each fit that still goes on."""
    chosen = []
    for folder in sorted(runs.glob("fit-*")):
        owed = len(json.loads((folder / "job.json").read_text())["outputs"])
        newest = sorted(folder.glob("attempt-*/checkpoints/step-*"), key=lambda path: path.name)
        if newest and len(list(folder.glob("taken/*.json"))) < owed:
            files = sorted(newest[-1].iterdir())
            unlinked = [path for path in files if path.stat().st_nlink == 1]
            chosen.append(source.choice(unlinked))
    return chosen


def ended_with(project: Project) -> dict[str, Any]:
    """Every prediction's and every weight's hash, and every metric, by job and output."""
    found = {}
    for path in sorted(project.runs.glob("*-*/taken/*.json")):
        record = json.loads(path.read_text())
        files = {n: h for n, h in record["files"].items() if n.startswith(("pred", "weights"))}
        found[f"{path.parent.parent.name} {path.stem}"] = [files, record["metrics"]]
    return found
