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

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from lwspec.engine.job import Job, Kind, identity
from lwspec.engine.runs.checksum import is_intact, sha256_once, with_checksum
from lwspec.engine.runs.recorded import (
    CancelledRecord,
    ExitRecord,
    JobRecord,
    OutputRecord,
    StartedRecord,
    fitting,
    is_event,
)
from lwspec.errors import RunFolderError

_BLOCK = 1 << 20
_TAIL = 1 << 14
"""Bytes of events that are read at once, and from the end at first."""

_ATTEMPT = re.compile(r"attempt-[1-9][0-9]*")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""Half a character of those beyond the first 65,536, as JSON escapes it."""


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Write JSON so that a reader sees either the old file or the whole new one.

    Without an indent it is written many times faster: for files that hold whole plans.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("w", encoding="utf-8") as file:
            file.write(json.dumps(value, indent=indent, sort_keys=True))
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises RunFolderError where it is none."""
    try:
        value = _parsed(path.read_bytes())
    except FileNotFoundError:
        raise RunFolderError("the file is missing", where=str(path)) from None
    except (OSError, ValueError) as error:
        raise RunFolderError(f"unreadable: {error}", where=str(path)) from None
    if not isinstance(value, dict):
        raise RunFolderError("not a JSON object", where=str(path))
    return value


def _parsed(raw: bytes) -> Any:
    """JSON from bytes. Raises ValueError where they are none, or where its texts are no texts."""
    try:
        value = json.loads(raw.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if _SURROGATE.search(raw):
        json.dumps(value, ensure_ascii=False).encode()  # raises where a half has no other
    return value


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON object with its checksum."""
    write_json(path, with_checksum(record))


def read_record(path: Path) -> dict[str, Any]:
    """Read what `write_record` wrote; raises RunFolderError where anything in it has changed."""
    record = read_json(path)
    if not is_intact(record):
        raise RunFolderError(
            "the record has changed since it was written",
            where=str(path),
            remedy="restore the file, or delete the job's folder and submit again",
        )
    return record


def _is_whole(path: Path) -> bool:
    """Whether a record can be read: one that was damaged is not taken, and its work done again."""
    try:
        fitting(read_record(path), OutputRecord, path)
    except RunFolderError:
        return False
    return True


@dataclass(frozen=True)
class AttemptFolder:
    """One try at a job: written by the process that made the folder, and by no other."""

    path: Path

    @property
    def number(self) -> int:
        """1 for the first attempt."""
        return int(self.path.name.removeprefix("attempt-"))

    @property
    def outputs(self) -> Path:
        """Where the finished outputs' records lie."""
        return self.path / "outputs"

    def append_event(self, kind: str, **fields: Any) -> None:
        """Add one line to events.jsonl."""
        line = json.dumps({"time": time.time(), "event": kind, **fields}, allow_nan=True) + "\n"
        with (self.path / "events.jsonl").open("ab", buffering=0) as file:
            file.write(line.encode())

    def events(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Whole lines from byte `offset` on, and the offset after them.

        A last line that was cut short, by a crash or because it is being written, is left for
        later. A damaged line in the middle becomes an event of kind `unreadable`.
        """
        events: list[dict[str, Any]] = []
        after = offset
        for more, after in self.event_blocks(offset):  # noqa: B007
            events += more
        return events, after

    def event_blocks(self, offset: int = 0) -> Iterator[tuple[list[dict[str, Any]], int]]:
        """The same, a bounded number of bytes at a time."""
        path = self.path / "events.jsonl"
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(offset)
            begun = b""
            while raw := file.read(_BLOCK):
                raw = begun + raw
                whole = raw[: raw.rfind(b"\n") + 1]
                begun = raw[len(whole) :]
                offset += len(whole)
                yield [_event(line) for line in whole.splitlines()], offset

    def started(self) -> dict[str, Any]:
        """Who runs the attempt, where, with what evidence; empty where it died before saying."""
        path = self.path / "started.json"
        return fitting(read_json(path), StartedRecord, path) if path.exists() else {}

    def process(self) -> dict[str, Any] | None:
        """What names the process that runs it, where it got so far as to say."""
        named: dict[str, Any] | None = self.started().get("evidence", {}).get("process")
        return named

    def ended(self) -> dict[str, Any] | None:
        """The exit record, or None while there is none."""
        path = self.path / "exit.json"
        return fitting(read_record(path), ExitRecord, path) if path.exists() else None

    def outcome(self) -> str | None:
        """How it ended; None where it was killed, or runs, and has saved nothing yet."""
        ended = self.ended()
        if ended is not None:
            return str(ended["outcome"])
        saved = any(self.outputs.glob("*.json")) or any(self.path.glob("checkpoints/step-*"))
        return "stopped" if saved else None

    def wall_s(self) -> float:
        """Seconds that the attempt took, its share where several ran in one process.

        To its last sign of life where it was killed.
        """
        ended = self.ended()
        if ended is not None:
            return float(ended["wall_s"])
        started, events = self.started(), self.path / "events.jsonl"
        if not started or not events.exists():
            return 0.0
        lived_s = max(0.0, events.stat().st_mtime - float(started["started_at"]))
        return lived_s / int(started.get("evidence", {}).get("side_by_side", 1))

    def device_s(self) -> float:
        """Device seconds that the attempt costs of the budget."""
        ended = self.ended()
        if ended is not None:
            return float(ended["device_s"])
        told = self._told("device_s")
        return self.wall_s() * int(self.started().get("charge", 0)) if told is None else float(told)

    def _told(self, field: str) -> Any:
        """What the newest event that has a field says there, read from the end of the file."""
        path = self.path / "events.jsonl"
        size = path.stat().st_size if path.exists() else 0
        start = size
        while start > 0:
            start = max(0, size - 4 * (size - start) - _TAIL)
            with path.open("rb") as file:
                file.seek(start)
                lines = file.read(size - start).splitlines()
            for line in reversed(lines[1:] if start else lines):
                if field in (event := _event(line)):
                    return event[field]
        return None


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = _parsed(line)
    except ValueError:
        event = None
    return event if is_event(event) else {"event": "unreadable", "bytes": len(line)}


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
                remedy="submit again",
            )

    def record(self) -> dict[str, Any]:
        """job.json: the job with its allowance and its command."""
        path = self.path / "job.json"
        record = fitting(read_json(path), JobRecord, path)
        if record["id"] != self.path.name:
            raise RunFolderError(f"this is the record of {record['id']!r}", where=str(path))
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
        path = self.path / "cancelled.json"
        if not path.exists():
            return False
        at = float(fitting(read_json(path), CancelledRecord, path)["at"])
        return at > float(self.record().get("granted_at", 0.0))

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
        return {path.stem: fitting(read_record(path), OutputRecord, path) for path in found}

    def take(self, attempt: AttemptFolder, output: str, record: Mapping[str, Any]) -> bool:
        """Offer a finished output; False where another attempt's copy was taken before."""
        mine = attempt.outputs / f"{output}.json"
        write_record(mine, {"attempt": attempt.number, "output": output, **record})
        return self._link(mine)

    def take_finished(self) -> None:
        """Take what an attempt finished but died before offering."""
        for attempt in self.attempts():
            for mine in sorted(attempt.outputs.glob("*.json")):
                if not (self.path / "taken" / mine.name).exists() and _is_whole(mine):
                    self._link(mine)

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
        place = self.path / "taken" / f"{output}.json"
        record = fitting(read_record(place), OutputRecord, place)
        path = self.path / f"attempt-{record['attempt']}" / name
        if name not in record["files"] or not path.exists():
            raise RunFolderError(f"the output {output!r} has no file {name!r}", where=str(path))
        if sha256_once(path) != record["files"][name]:
            raise RunFolderError("the file has changed since it was recorded", where=str(path))
        return path


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
