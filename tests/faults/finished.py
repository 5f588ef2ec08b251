"""A finished plan, copied: its ingestion under faults, and damage to what it left on disk."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from faults import truth
from faults.inject import Fault
from faults.project import Project, damage
from faults.schedule import ERRORS, Outcome, outcome, seed

from lwspec.engine.runs.runfolder import Runs
from lwspec.engine.store.ingest import ingest
from lwspec.engine.store.store import Store
from lwspec.errors import RunFolderError

RECORDS = {
    "exit.json": "*-*/attempt-*/exit.json",
    "output record": "*-*/taken/*.json",
    "result file": "*-*/attempt-*/[er]*[0-9t].txt",
    "fingerprints.json": "cache/fingerprints.json",
    "started.json": "*-*/attempt-*/started.json",
    "events.jsonl": "*-*/attempt-*/events.jsonl",
    "job.json": "*-*/job.json",
    "plan": "plans/small.s*.json",
}
CUT_ONLY = ("job.json", "plan")
"""These hold no checksum: a turned bit that leaves a record readable is found later or not at all.

The report holds the first two against their hashes, and a job refuses changed settings.
"""


class Finished:
    """A plan that has finished undisturbed."""

    def __init__(self) -> None:
        self.project = Project(seeds=2)
        self.project.finish()
        self.rows = truth.tables(self.project.folder / "results.db")

    def copy(self, database: bool = False) -> Project:
        """The same in a folder of its own."""
        project = Project()
        shutil.rmtree(project.folder)
        subprocess.run(["cp", "-a", self.project.folder, project.folder], check=True)  # with links
        shutil.copy(self.project.truth, project.truth)
        if not database:
            (project.folder / "results.db").unlink()
        return project

    def steps(self) -> int:
        """How many steps an undisturbed `status` has that makes the database."""
        project = self.copy()
        steps = project.run("status", "small.toml").steps
        project.remove()
        return steps

    def ingested(self, step: int) -> Outcome:
        """The ingester is killed at one step, then meets an error at it."""
        begun, project = time.monotonic(), self.copy()
        project.run("status", "small.toml", faults=[Fault("command", "kill", step)])
        error = Fault("command", ERRORS[step % 3], step)
        project.run("status", "small.toml", "--rescan", faults=[error])
        truth.check(project)
        return outcome(project, f"ingester at step {step}", begun)

    def damaged(self, number: int) -> Outcome:
        """A file is damaged: that is said, or changes nothing; mended, all is as it was."""
        source, begun = random.Random(f"{seed()} damage {number}"), time.monotonic()
        project = self.copy(database=True)
        kind = list(RECORDS)[number % len(RECORDS)]
        path = source.choice(sorted(project.runs.glob(RECORDS[kind])))
        whole = path.read_bytes()
        done = damage(path, source, cut=kind in CUT_ONLY)
        project.struck.append({"do": done, "at": kind})
        printed = project.run("status", "small.toml", "--rescan").printed
        named = str(path.relative_to(project.folder)) in printed.replace("\n", "")
        self._check(project, kind, path, named)
        project.run("plan", "small.toml")
        project.submit()
        path.write_bytes(whole)
        project.run("status", "small.toml", "--rescan")
        self._compare(project, "mended", ("outputs", "metrics"))
        return outcome(project, f"damaged {number}", begun)

    def _check(self, project: Project, kind: str, path: Path, named: bool) -> None:
        if kind == "result file":
            self._check_refused(project, path)
        said = () if named else ("outputs", "metrics", "attempts", "jobs", "cells")
        self._compare(project, f"{path} damaged", ("outputs", "metrics", *said))
        fresh = project.folder / "rebuilt.db"
        ingest(Runs(project.runs), Store(fresh, shared=False))
        rebuilt = truth.tables(fresh)
        for table in ("outputs", "metrics"):
            if more := [row for row in rebuilt[table] if row not in self.rows[table]]:
                project.problems.append(f"{path} damaged, {table} made up: {more[:2]}")

    def _check_refused(self, project: Project, path: Path) -> None:
        folder = Runs(project.runs).folder(path.parent.parent.name)
        try:
            folder.file(path.stem, path.name)
        except RunFolderError:
            return
        project.problems.append(f"{path} damaged, and read")

    def _compare(self, project: Project, when: str, names: tuple[str, ...]) -> None:
        now = truth.tables(project.folder / "results.db")
        for name in names:
            mine, before = _settled(now[name]), _settled(self.rows[name])
            if differ := [row for row in mine if row not in before]:
                project.problems.append(f"{when}: {name} differs: {differ[:2]}")
            if lost := [row for row in before if row not in mine]:
                project.problems.append(f"{when}: {name} lacks: {lost[:2]}")


def _settled(rows: list[dict[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows without what a look at the disk may change."""
    passing = ("folder_mtime_ns", "below", "settled", "events_read", "progress")
    return [{key: row[key] for key in row if key not in passing} for row in rows]
