"""An attempt's folder: what one try at a job wrote."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwspec.engine.runs.checksum import KEY, differs
from lwspec.engine.runs.jsonfile import parsed, write_record
from lwspec.engine.runs.recorded import (
    ExitRecord,
    StartedRecord,
    is_event,
    read_fitting,
    to_mend,
)
from lwspec.errors import RunFolderError

CODE_DIFF = "code.diff"
"""Changes to the code that were not committed: a table that rests on them says it where they are
gone."""

_BLOCK = 1 << 20
_TAIL = 1 << 14
"""Bytes of events that are read at once, and from the end at first."""


@dataclass(frozen=True)
class AttemptFolder:
    """One try at a job: written by the process that made the folder, and by no other."""

    path: Path

    @property
    def number(self) -> int:
        """1 for the first attempt."""
        return int(self.path.name.removeprefix("attempt-"))

    @property
    def job(self) -> str:
        """The id of the job that it is a try at."""
        return self.path.parent.name

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
        if not path.exists():
            return {}
        record = read_fitting(path, StartedRecord, to_mend(self.path.parent))
        if record.get("job", self.job) != self.job:
            raise self._not_own(record["job"], path)
        return record

    def check(self, record: Mapping[str, Any], path: Path) -> None:
        """Raise RunFolderError for a record of another job, or without its checksum.

        What lwspec before 0.3 wrote names no job, not in started.json either, where it got so far,
        and may hold no checksum.
        """
        if "job" not in record and self._is_older():
            return
        if record.get("job") != self.job:
            raise self._not_own(record.get("job"), path)
        if KEY not in record:
            raise RunFolderError(
                "the record has lost its checksum",
                where=str(path),
                remedy=to_mend(self.path.parent),
            )

    def _is_older(self) -> bool:
        return "job" not in self.started()

    def _not_own(self, named: str | None, path: Path) -> RunFolderError:
        return RunFolderError(
            f"this is a record of {named or 'no job'}, and not of {self.job}",
            where=str(path),
            remedy=to_mend(self.path.parent),
        )

    def process(self) -> dict[str, Any] | None:
        """What names the process that runs it, where it got so far as to say."""
        named: dict[str, Any] | None = self.started().get("evidence", {}).get("process")
        return named

    def ended(self) -> dict[str, Any] | None:
        """The exit record, or None while there is none."""
        path = self.path / "exit.json"
        if not path.exists():
            return None
        record = read_fitting(path, ExitRecord, to_mend(self.path.parent))
        self.check(record, path)
        return record

    def end(self, record: Mapping[str, Any]) -> None:
        """Write the exit record: nothing more comes of the attempt."""
        write_record(self.path / "exit.json", {"job": self.job, **record})

    def differing(self) -> Iterator[tuple[Path, str]]:
        """Its own files that are not what it ended with, and what became of each."""
        for name, sha256 in (self.ended() or {}).get("files", {}).items():
            path = self.path / name
            if name == CODE_DIFF and not path.exists():
                continue
            if what := differs(path, sha256):
                yield path, what

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
        event = parsed(line)
    except ValueError:
        event = None
    return event if is_event(event) else {"event": "unreadable", "bytes": len(line)}
