"""How fast running jobs go: rates and time left, from the progress events that they write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwspec.cli.terminal import printable
from lwspec.engine.runs.attempt import AttemptFolder

WINDOW_S = 60.0
"""Rates are those of the last minute."""


@dataclass(frozen=True)
class Pace:
    """What an attempt is at, how fast, and how long the rest of its count takes."""

    what: str
    done: int
    total: int
    per_s: float | None
    """None until it has counted twice."""
    left_s: float | None

    @property
    def share(self) -> float:
        """How much of it is done, from 0 to 1."""
        return self.done / self.total if self.total else 0.0

    def __str__(self) -> str:
        rate = "" if self.per_s is None else f" {self.per_s:.1f} {unit(self.what)}/s"
        return f"{self.what} {self.done}/{self.total}{rate}"


@dataclass(frozen=True)
class _Count:
    at: float
    done: int
    total: int


Counts = Mapping[str, tuple[_Count, ...]]
"""What was counted in the last minute, by unit: a fit counts steps, and items as it validates."""


def unit(what: str) -> str:
    """In what a stretch of work is counted."""
    if what.startswith("sender reads"):
        return "rows"
    return {"scoring": "items", "timing": "passes"}.get(what, "steps")


def count(counts: Counts, events: Iterable[Mapping[str, Any]]) -> Counts:
    """The counts with those of newer events; a count that begins anew forgets the one before."""
    found = dict(counts)
    for event in events:
        if event["event"] != "progress":
            continue
        new = _Count(event["time"], event["done"], event["total"])
        kept = found.get(unit(event["what"]), ())
        if kept and (new.total != kept[-1].total or new.done < kept[-1].done):
            kept = ()
        recent = tuple(each for each in kept if new.at - each.at <= WINDOW_S)
        found[unit(event["what"])] = (*recent, new)
    return found


def pace(counts: Counts, newest: Mapping[str, Any]) -> Pace:
    """The pace that counts tell. What a fit has left is told by its steps, also as it validates."""
    own = unit(newest["what"])
    whole = "steps" if "steps" in counts else own
    return Pace(
        printable(newest["what"]),
        newest["done"],
        newest["total"],
        _per_s(counts[own]),
        _left_s(counts[whole]),
    )


def _per_s(counted: tuple[_Count, ...]) -> float | None:
    first, last = counted[0], counted[-1]
    if last.at <= first.at or last.done <= first.done:
        return None
    return (last.done - first.done) / (last.at - first.at)


def _left_s(counted: tuple[_Count, ...]) -> float | None:
    per_s, last = _per_s(counted), counted[-1]
    return None if per_s is None else (last.total - last.done) / per_s


class Paces:
    """Reads what is new in attempts' events each time that it is asked."""

    def __init__(self) -> None:
        self._offsets: dict[Path, int] = {}
        self._counts: dict[Path, Counts] = {}
        self._newest: dict[Path, Mapping[str, Any]] = {}

    def of(self, attempt: AttemptFolder) -> Pace | None:
        """The pace of an attempt; None until it has told of any progress."""
        path = attempt.path
        events, self._offsets[path] = attempt.events(self._offsets.get(path, 0))
        told = [event for event in events if event["event"] == "progress"]
        self._counts[path] = count(self._counts.get(path, {}), told)
        if told:
            self._newest[path] = told[-1]
        newest = self._newest.get(path)
        return None if newest is None else pace(self._counts[path], newest)
