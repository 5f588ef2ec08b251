"""What squeue and sacct say, one call each."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import time
from collections.abc import Collection
from dataclasses import dataclass

from lwspec.errors import BusyError

_ID = re.compile(r"(?P<array>[0-9]+)(?:_(?:[0-9]+|\[(?P<listed>[0-9,-]+)(?:%[0-9]+)?\]))?")
_RANGE = re.compile(r"([0-9]{1,7})(?:-([0-9]{1,7}))?")
_MOST = 4_000_001
"""The largest array that SLURM can be set to take."""


@dataclass(frozen=True)
class Listed:
    """One array element as the cluster lists it."""

    id: str
    """The array's id and the element's index: 1234_5."""
    name: str
    state: str
    reason: str | None = None
    """Why it waits."""


def this_user() -> str:
    """Who submits."""
    return pwd.getpwuid(os.getuid()).pw_name


def squeue(users: Collection[str]) -> list[Listed] | None:
    """Users' jobs that wait, run or ended of late, by element; None where nobody answers."""
    return _listed(
        [
            "squeue", "--noheader", "--all", "--array", "--states=all",
            "--user", ",".join(sorted(users)), "--format=%i|%j|%T|%r",
        ]
    )  # fmt: skip


def in_queue(user: str) -> list[dict[str, str]]:
    """Account, QOS and partition of each of a user's jobs that waits or runs.

    Raises BusyError where nobody answers.
    """
    rows = _rows(["squeue", "--noheader", "--all", "--array", "--user", user, "--format=%a|%q|%P"])
    if rows is None or any(len(row) != 3 for row in rows):
        what = "does not answer" if rows is None else "prints what cannot be read"
        raise BusyError(f"squeue {what}", remedy="the same command again, later")
    return [dict(zip(("account", "qos", "partition"), row, strict=True)) for row in rows]


def sacct(names: Collection[str], since: float) -> list[Listed] | None:
    """Jobs of these names since a time; None where there is no accounting."""
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since))
    return _listed(
        [
            "sacct", "--allocations", "--noheader", "--parsable2", "--starttime", start,
            "--allusers", "--name", ",".join(sorted(names)), "--format", "JobID,JobName,State",
        ]
    )  # fmt: skip


def _listed(command: list[str]) -> list[Listed] | None:
    rows = _rows(command)
    if rows is None:
        return None
    return [Listed(element, *row[1:]) for row in rows for element in elements(row[0])]


def _rows(command: list[str]) -> list[list[str]] | None:
    """What a program prints, by line and field; None where it does not answer."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env=_environment()
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    rows = (line.split("|", 3) for line in done.stdout.splitlines())
    return [row for row in rows if len(row) > 2]


def _environment() -> dict[str, str]:
    """This process's, without what would filter or format what the programs print."""
    ours = ("SQUEUE_", "SACCT_")
    return {key: value for key, value in os.environ.items() if not key.startswith(ours)}


def elements(job: str) -> list[str]:
    """`12_[0-2,7%4]`, as sacct prints what was cancelled while it waited, by element.

    None of an id that no array has: of a job of several parts, or of what is no id at all.
    """
    found = _ID.fullmatch(job)
    if found is None:
        return []
    if found["listed"] is None:
        return [job]
    parts = [_RANGE.fullmatch(part) for part in found["listed"].split(",")]
    ranges = [range(int(part[1]), int(part[2] or part[1]) + 1) for part in parts if part]
    if None in parts or sum(map(len, ranges)) > _MOST:
        return []
    return [f"{found['array']}_{n}" for numbers in ranges for n in numbers]
