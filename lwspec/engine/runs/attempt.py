"""An attempt's folder: what one try at a job wrote."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwspec.engine.runs.jsonfile import parsed, read_json, read_record
from lwspec.engine.runs.recorded import ExitRecord, StartedRecord, fitting, is_event

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
        event = parsed(line)
    except ValueError:
        event = None
    return event if is_event(event) else {"event": "unreadable", "bytes": len(line)}
