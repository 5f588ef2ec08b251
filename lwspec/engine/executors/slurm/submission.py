"""Submissions on disk: an array of allocations, from the intent to each one's end.

    runs/submissions/<name>/intent.json         members and parameters, before sbatch is called
        slurm.json                              the array's id, once it is known
        abandoned.json                          where SLURM was found not to know it
        <element>.<start>.started.json          by the allocation: where it runs
        <element>.<start>.beat                  touched while it lives
        <element>.<start>.ended.json            how it ended

The name is also the job's name in SLURM, so that what was submitted and not recorded is found.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwspec.engine.executors.slurm.queue import this_user
from lwspec.engine.runs.jsonfile import write_json
from lwspec.engine.runs.life import Marks
from lwspec.engine.runs.recorded import ArrayRecord, EndedRecord, IntentRecord, Record, read_fitting
from lwspec.engine.runs.runfolder import Runs

_MARK = re.compile(r"(\d+)\.(\d+)\.(started\.json|beat|ended\.json)")


@dataclass(frozen=True)
class Submission:
    """One array, by its folder."""

    path: Path
    intent: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name of its folder, and of its job in SLURM."""
        return self.path.name

    @property
    def elements(self) -> list[tuple[str, ...]]:
        """The jobs of each element's pack."""
        return [tuple(pack["jobs"]) for pack in self.intent["packs"]]

    def array_id(self) -> str | None:
        """The id that SLURM gave it, where it was recorded."""
        path = self.path / "slurm.json"
        if not path.exists():
            return None
        return str(_read(path, ArrayRecord)["array_id"])

    def record_id(self, array_id: str) -> None:
        """Write down the id that SLURM gave it."""
        write_json(self.path / "slurm.json", {"array_id": array_id, "recorded_at": time.time()})

    def abandon(self) -> None:
        """Give up an intent that SLURM does not know: should it still arrive, it ends at once."""
        write_json(self.path / "abandoned.json", {"at": time.time()})

    def given_up(self, runs: Runs, jobs: Collection[str]) -> bool:
        """Whether it was abandoned, or a newer submission holds some of these jobs."""
        if (self.path / "abandoned.json").exists():
            return True
        newer = (
            other
            for other in submissions(runs)
            if other.intent["intended_at"] > self.intent["intended_at"]
        )
        return any(set(jobs) & set(held) for other in newer for held in other.elements)

    def marks(self) -> dict[int, Marks]:
        """What each element left behind, of its newest start."""
        newest: dict[int, dict[str, Any]] = {}
        for path in self.path.iterdir():
            match = _MARK.fullmatch(path.name)
            if match is None:
                continue
            element, start, what = int(match[1]), int(match[2]), match[3]
            seen = newest.setdefault(element, {"start": -1})
            if start > seen["start"]:
                seen.clear()
                seen["start"] = start
            if start == seen["start"]:
                seen[what] = path
        submitted = self.array_id() is not None
        return {
            element: _marks(newest.get(element, {}), self.intent["intended_at"], submitted)
            for element in range(len(self.intent["packs"]))
        }


def _marks(seen: Mapping[str, Any], intended_at: float, submitted: bool) -> Marks:
    started, beat, ended = (seen.get(what) for what in ("started.json", "beat", "ended.json"))
    return Marks(
        intended_at,
        submitted,
        started.stat().st_mtime if started else None,
        beat.stat().st_mtime if beat else None,
        str(_read(ended, EndedRecord)["outcome"]) if ended else None,
    )


def _read(path: Path, model: type[Record]) -> dict[str, Any]:
    """One of its records; damaged, it may name jobs that SLURM still holds."""
    folder = path.parent
    forget = f"once squeue --name {folder.name} lists nothing more, delete {folder}"
    return read_fitting(path, model, f"restore the file, or, {forget}, then lwspec submit")


def intend(runs: Runs, spec: str, intent: Mapping[str, Any]) -> Submission:
    """Write down what is about to be submitted, under a name of its own."""
    path = runs.path / "submissions" / f"{spec}-{secrets.token_hex(5)}"
    whole = {**intent, "spec": spec, "user": this_user(), "intended_at": time.time()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir()  # which others who share the budget can read
    write_json(path / "intent.json", whole)
    return Submission(path, whole)


def submissions(runs: Runs) -> Iterator[Submission]:
    """Every submission, oldest first."""
    found = [
        Submission(path.parent, _read(path, IntentRecord))
        for path in (runs.path / "submissions").glob("*/intent.json")
    ]
    yield from sorted(found, key=lambda each: float(each.intent["intended_at"]))
