"""One lwspec at a time starts jobs in a folder of runs, and one records them."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lwspec.errors import UsageError

POLL_S = 0.1

STARTING = "local.lock"
RECORDING = "ingest.lock"
_DOES = {STARTING: "is running jobs in", RECORDING: "is recording the runs of"}
_REMEDY = {
    STARTING: "lwspec status --watch, or wait until it ends",
    RECORDING: "wait until it ends",
}


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise  # the file system has no locks
        return False
    return True


@contextmanager
def only_one(runs: Path, name: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold one of the folder's locks, which the kernel drops when the process dies.

    Raises UsageError where another process holds it for longer than `wait_s`.
    """
    runs.mkdir(parents=True, exist_ok=True)
    path = runs / name
    deadline = time.monotonic() + wait_s
    with path.open("a+") as file:
        while not _locked(file):
            if time.monotonic() >= deadline:
                file.seek(0)
                raise UsageError(
                    f"another lwspec ({file.read().strip()}) {_DOES[name]} {runs}",
                    remedy=_REMEDY[name],
                )
            time.sleep(POLL_S)
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield


def held(runs: Path) -> bool:
    """Whether another process starts jobs here; asks without taking its place."""
    path = runs / STARTING
    if not path.exists():
        return False
    wanted = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    with path.open("rb") as file:
        told = fcntl.fcntl(file, fcntl.F_GETLK, wanted)
    return bool(struct.unpack("hhqqi", told)[0] != fcntl.F_UNLCK)
