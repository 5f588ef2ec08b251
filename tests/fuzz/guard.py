"""What no case may do: hang, start a process, speak to a network, write outside its folder."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

CASE_S = 5.0
"""How long one case may take of a processor."""
WAIT_S = 60.0
"""And by the clock, however busy the machine is."""

_PATHS = {
    "os.mkdir": (0,), "os.remove": (0,), "os.rmdir": (0,), "os.rename": (0, 1), "os.link": (1,),
    "os.symlink": (1,), "os.truncate": (0,), "os.chmod": (0,), "os.chown": (0,), "os.utime": (0,),
    "sqlite3.connect": (0,), "shutil.rmtree": (0,),
}  # fmt: skip
"""Audit events that change files, and which of their arguments are the paths."""

_ABSENT = ("squeue", "sacct", "git")
"""Programs that are only asked, and that a machine may lack."""
_NEVER = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Refused(BaseException):
    """A case did what no case may do; no `except Exception` hides it."""


class Guard:
    """Watches this process while a case runs."""

    def __init__(self, folder: Path) -> None:
        self._inside = str(folder.resolve())
        self._watching = False
        sys.addaudithook(self._audit)
        signal.signal(signal.SIGALRM, self._late)
        signal.signal(signal.SIGPROF, self._late)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Raise Refused out of what is done inside."""
        signal.setitimer(signal.ITIMER_PROF, CASE_S)
        signal.setitimer(signal.ITIMER_REAL, WAIT_S)
        self._watching = True
        try:
            yield
        finally:
            self._watching = False
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _late(self, number: int, frame: FrameType | None) -> None:
        if self._watching:
            raise Refused("takes too long")

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._watching:
            return
        if event == "subprocess.Popen" and arguments[0] in _ABSENT:
            raise FileNotFoundError(f"no {arguments[0]} on this machine")
        if event in _NEVER:
            raise Refused(f"{event} {arguments[:2]!r}")
        if event == "open" and _writes(*arguments[1:]):
            self._check(event, arguments[0])
        for place in _PATHS.get(event, ()):
            self._check(event, arguments[place])

    def _check(self, event: str, path: Any) -> None:
        if isinstance(path, int):
            return
        text = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - a link is not followed
        if text != os.devnull and not f"{text}/".startswith(f"{self._inside}/"):
            raise Refused(f"{event} outside its folder: {text}")


def _writes(mode: str | None, flags: int) -> bool:
    return any(sign in mode for sign in "wxa+") if mode else bool(flags & _WRITES)
