"""A plan run twice in folders of its own, in processes that have nothing in common but the spec."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from conftest import ENVIRONMENT, SPEC, Project

from lwspec.engine.runs.jsonfile import read_json

Made = dict[tuple[str, str, str], str]
"""SHA-256 of each file of a taken output, by the job's label, the output and the file."""

HEAD = SPEC.split("[[experiment]]")[0]
SMALL = (
    ("seeds = [1, 2]", "seeds = [1]"),
    ("samples = 48, epochs = 2", "samples = 24, epochs = 1"),
)


def repeated(
    folder: Path, world: Path, experiments: str, changes: Sequence[tuple[str, str]] = ()
) -> tuple[list[Project], list[Made]]:
    """The projects, and what each made; sets and dicts of text are in another order in each."""
    projects = []
    for number in ("1", "2"):
        (folder / number).mkdir()
        project = Project(folder / number, world)
        project.write(HEAD + experiments)
        for old, new in (*SMALL, *changes):
            project.change(old, new)
        done = subprocess.run(
            project.command("submit", "small.toml", "--yes"),
            cwd=project.folder,
            env={**ENVIRONMENT, "PYTHONHASHSEED": number},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        projects.append(project)
    return projects, [made(project) for project in projects]


def made(project: Project) -> Made:
    """What a project's jobs delivered, but for the record that says when."""
    found = {}
    for path in project.runs.glob("*/taken/*.json"):
        label = read_json(path.parent.parent / "job.json")["label"]
        for file, sha in read_json(path)["files"].items():
            if file != "evaluation.json":
                found[label, path.stem, file] = sha
    return found


def differing(one: Made, other: Made) -> list[tuple[str, str, str]]:
    """What is not the same in both."""
    return [key for key in sorted({*one, *other}) if one.get(key) != other.get(key)]
