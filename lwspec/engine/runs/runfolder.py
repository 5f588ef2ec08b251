"""Run folders: the files by which jobs and the command line speak to each other.

    runs/<job id>/job.json                  the resolved job, its allowance, its command
    runs/<job id>/attempt-<n>/              made by exclusive mkdir: whoever makes it owns it
        started.json events.jsonl log.txt exit.json
        outputs/<output>.json               one finished output: its files by hash, its metrics
    runs/<job id>/cancelled.json            a person took it back; undone by a later grant
    runs/<job id>/taken/<output>.json       a hard link to the first finished copy, for good

A job is done when every output that it owes is taken. Nothing here is ever rewritten except
job.json, whose list of outputs may grow and whose allowance may be lowered.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from lwspec.engine.job import Job, Kind, identity
from lwspec.engine.runs.attempt import AttemptFolder
from lwspec.engine.runs.checksum import differs, sha256_once
from lwspec.engine.runs.jsonfile import write_json, write_record
from lwspec.engine.runs.recorded import (
    JobRecord,
    OutputRecord,
    read_fitting,
    to_mend,
)
from lwspec.errors import RunFolderError

MADE_ANEW = ("states", "pooled")
"""Steps whose outputs can be of any size, and stand behind no number by themselves: who reads them
checks them."""
_ATTEMPT = re.compile(r"attempt-[1-9][0-9]*")


@dataclass(frozen=True)
class JobFolder:
    """All attempts at one job, and which of their outputs were taken."""

    path: Path

    def job(self) -> Job:
        """The job as it was submitted."""
        return Job.from_json(self.record())

    def check_identity(self) -> None:
        """Raise RunFolderError where job.json does not hold the settings that name the job."""
        job = self.job()
        if identity(job.kind, job.step, job.settings, job.inputs) != self.path.name:
            raise RunFolderError(
                "these are not the settings that the job was submitted with",
                where=str(self.path / "job.json"),
                remedy=to_mend(self.path),
            )

    def record(self) -> dict[str, Any]:
        """job.json: the job with its allowance and its command."""
        path = self.path / "job.json"
        record = read_fitting(path, JobRecord, to_mend(self.path))
        if record["id"] != self.path.name:
            raise RunFolderError(
                f"this is the record of {record['id']!r}",
                where=str(path),
                remedy=to_mend(self.path),
            )
        return record

    def attempts(self) -> list[AttemptFolder]:
        """Every attempt, oldest first."""
        found = self.path.glob("attempt-*")
        ours = [AttemptFolder(path) for path in found if _ATTEMPT.fullmatch(path.name)]
        return sorted(ours, key=lambda attempt: attempt.number)

    def outcomes(self) -> list[str | None]:
        """How each attempt since the last grant ended; None for what was killed or still runs.

        What was killed after it had saved something counts as stopped: it goes on from there.
        """
        return [attempt.outcome() for attempt in self._since_granted()]

    def spent_s(self) -> float:
        """What the attempts since the last grant have spent of its allowance.

        Jobs that cost nothing are allowed seconds.
        """
        free = not self.record()["charge"]
        made = self._since_granted()
        return sum(each.wall_s() if free else each.device_s() for each in made)

    def _since_granted(self) -> list[AttemptFolder]:
        """By their numbers: the clocks of two machines, or of one that was set, may disagree."""
        record = self.record()
        if "granted_after" in record:
            return [each for each in self.attempts() if each.number > record["granted_after"]]
        granted_at = record.get("granted_at", 0.0)  # as lwspec 0.1 wrote it
        return [each for each in self.attempts() if each.path.stat().st_mtime >= granted_at]

    def newest(self) -> int:
        """The number of the newest attempt; 0 where there is none."""
        return max((attempt.number for attempt in self.attempts()), default=0)

    def limit(self, allowance_s: float) -> None:
        """Lower the allowance, where more was granted; the grant stays the one that it was."""
        record = self.record()
        if allowance_s < record["allowance_s"]:
            write_json(self.path / "job.json", {**record, "allowance_s": allowance_s})

    def cancel(self) -> None:
        """Say that a person took the job back: nothing starts it by itself until it is granted."""
        write_json(self.path / "cancelled.json", {"at": time.time()})

    def cancelled(self) -> bool:
        """Whether a person took it back since it was last granted."""
        return (self.path / "cancelled.json").exists()

    def grant(self, record: Mapping[str, Any]) -> None:
        """Write job.json: the job may start, though a person took it back before."""
        (self.path / "cancelled.json").unlink(missing_ok=True)  # first: a later word counts
        write_json(self.path / "job.json", record)

    def begin_attempt(self) -> AttemptFolder:
        """Make the next attempt's folder; two processes never get the same one."""
        number = self.newest()
        while True:
            number += 1
            path = self.path / f"attempt-{number}"
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            (path / "outputs").mkdir()
            return AttemptFolder(path)

    def taken(self) -> dict[str, dict[str, Any]]:
        """The outputs that count, by name; each says which attempt made it."""
        found = sorted((self.path / "taken").glob("*.json"))
        return {path.stem: self._output(path) for path in found}

    def has_taken(self) -> bool:
        """Whether an output was taken, readable or not."""
        return any((self.path / "taken").glob("*.json"))

    def _output(self, path: Path) -> dict[str, Any]:
        record = read_fitting(path, OutputRecord, to_mend(self.path))
        AttemptFolder(self.path / f"attempt-{record['attempt']}").check(record, path)
        return record

    def take(self, attempt: AttemptFolder, output: str, record: Mapping[str, Any]) -> bool:
        """Offer a finished output; False where another attempt's copy was taken before."""
        mine = attempt.outputs / f"{output}.json"
        own = {"job": attempt.job, "attempt": attempt.number, "output": output}
        write_record(mine, {**own, **record})
        return self._link(mine)

    def take_finished(self) -> None:
        """Take what an attempt finished but died before offering."""
        for attempt in self.attempts():
            for mine in sorted(attempt.outputs.glob("*.json")):
                if not (self.path / "taken" / mine.name).exists() and self._is_whole(mine):
                    self._link(mine)

    def _is_whole(self, path: Path) -> bool:
        """Whether a record can be read: what was damaged is not taken, and its work done again."""
        try:
            self._output(path)
        except RunFolderError:
            return False
        return True

    def _link(self, mine: Path) -> bool:
        chosen = self.path / "taken"
        chosen.mkdir(exist_ok=True)
        try:
            os.link(mine, chosen / mine.name)
        except FileExistsError:
            return False
        return True

    def owed(self, outputs: Sequence[str]) -> list[str]:
        """Those of the outputs that nobody has finished."""
        taken = self.path / "taken"
        return [output for output in outputs if not (taken / f"{output}.json").exists()]

    def file(self, output: str, name: str) -> Path:
        """The path of a file that belongs to a taken output.

        Raises RunFolderError where it is gone or has changed since it was recorded.
        """
        record = self._output(self.path / "taken" / f"{output}.json")
        path = self.path / f"attempt-{record['attempt']}" / name
        what = None
        if name not in record["files"] or not path.exists():
            what = f"the output {output!r} has no file {name!r}"
        elif sha256_once(path) != record["files"][name]:
            what = "the file has changed since it was recorded"
        if what is not None:
            raise RunFolderError(what, where=str(path), remedy=to_mend(self.path))
        return path

    def differing(self) -> Iterator[tuple[Path, str]]:
        """Files of ended attempts and taken outputs that are gone or have changed; what became of
        each."""
        for attempt in self.attempts():
            yield from attempt.differing()
        if self.job().step in MADE_ANEW:
            return
        for record in self.taken().values():
            for name, sha256 in record["files"].items():
                path = self.path / f"attempt-{record['attempt']}" / name
                if what := differs(path, sha256):
                    yield path, what


@dataclass(frozen=True)
class Runs:
    """The folder that holds every job's folder."""

    path: Path

    def folder(self, job_id: str) -> JobFolder:
        """The folder of one job, whether it exists or not."""
        return JobFolder(self.path / job_id)

    def cancelled(self, jobs: Iterable[str]) -> set[str]:
        """Those of the jobs that a person took back."""
        return {job for job in jobs if self.folder(job).cancelled()}

    def listed(self) -> dict[str, os.DirEntry[str]]:
        """Every job that has a folder here, by its id."""
        kinds = tuple(f"{kind}-" for kind in get_args(Kind))
        if not self.path.exists():
            return {}
        with os.scandir(self.path) as entries:
            return {entry.name: entry for entry in entries if entry.name.startswith(kinds)}
