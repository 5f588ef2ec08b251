"""Which run folders have to be looked at: what may have changed since the store last saw it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from lwspec.engine.runs.runfolder import Runs

YOUNG_NS = 2_000_000_000
"""A time stamp this young may stay the same through another change."""


@dataclass(frozen=True)
class Seen:
    """How the folders looked when the store last saw them, by the jobs' ids."""

    settled: Mapping[str, int]
    """Of jobs that owe nothing and have no open attempt: when their folder last changed."""
    open: Mapping[str, tuple[int, str | None]]
    """Of all others: that, and how their attempts looked."""


@dataclass(frozen=True)
class Changes:
    """What the store does not know yet."""

    look_at: tuple[str, ...]
    gone: tuple[str, ...]
    """Jobs whose folder is no longer there."""


def changes(runs: Runs, seen: Seen, asked: Collection[str] | None) -> Changes:
    """List the folder and look at those of its jobs that may have changed.

    Nothing happens any more to a settled job until a plan is submitted that asks more of it. Its
    folder is looked at only where it is among those `asked` for; None asks for all of them.
    """
    present = runs.listed()
    among = seen.settled if asked is None else asked
    watched = [job for job in among if job in seen.settled and job in present]
    changed = {job for job in watched if present[job].stat().st_mtime_ns != seen.settled[job]}
    for job in present.keys() - seen.settled.keys():
        if not _as_seen(runs.path / job, *seen.open.get(job, (0, None))):
            changed.add(job)
    there = {job for job in changed if (runs.path / job / "job.json").exists()}
    kept = present.keys() - (changed - there)
    gone = [job for known in (seen.settled, seen.open) for job in known if job not in kept]
    return Changes(tuple(sorted(there)), tuple(gone))


def _as_seen(path: Path, at: int, how: str | None) -> bool:
    return how is not None and (at, how) == (changed_ns(path), below(path))


def changed_ns(path: Path) -> int:
    """When something was last added to a folder or taken from it."""
    return path.stat().st_mtime_ns


def below(path: Path) -> str | None:
    """How a job's attempts look: other than before once one has added a file or an event.

    None where something there is too young to tell.
    """
    with os.scandir(path) as entries:
        attempts = sorted(entry.name for entry in entries if entry.name.startswith("attempt-"))
    folders = ["", "taken", *attempts, *(f"{attempt}/outputs" for attempt in attempts)]
    at = {name: found.st_mtime_ns for name in folders if (found := _look(path / name))}
    events = [_look(path / attempt / "events.jsonl") for attempt in attempts]
    young = max(at.values()) > time.time_ns() - YOUNG_NS
    how = f"{at} {[found and found.st_size for found in events]}"
    return None if young else hashlib.sha256(how.encode()).hexdigest()  # it stands in an index


def _look(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
