"""Faults from inside a process: at its n-th change to a file it is killed, or the change fails.

Every call that changes a file of the project is a step: making a folder, opening a file to write,
writing, flushing to disk, renaming, linking, removing, and each statement of the database. Steps
are counted by process, so that a schedule of faults is repeatable, and "at every step" is exact.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import mmap
import os
import signal
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import sqlalchemy
from sqlalchemy.engine import Engine

Who = Literal["command", "job"]
WRITES = os.O_WRONLY | os.O_RDWR
SAID_OF_DATABASE = {"ENOSPC": "database or disk is full"}


@dataclass(frozen=True)
class Fault:
    """One fault: in which process, at which of its steps, and what happens there."""

    who: Who
    do: str
    """kill, ENOSPC, EIO, ESTALE, or clock."""
    step: int = 1
    process: int = 1
    """Of the jobs' processes of a command, which: counted as they start."""
    half: bool = False
    """Whether half of what is written at the step reaches the file first."""
    steps: int = 1
    """How many steps in a row fail."""
    shift_s: float = 0.0
    """By how much the clock jumps."""
    after_s: float | None = None
    """A kill after so long instead of at a step."""


class Injector:
    """The faults of one command and of the processes that it starts; shared through forks."""

    def __init__(self, folder: Path, control: Path, faults: Sequence[Fault]) -> None:
        self.folder, self.control, self.faults = os.path.realpath(folder), control, faults
        self.who: Who = "command"
        self.process, self.count, self._lock = 0, 0, threading.RLock()
        self._struck: set[int] = set()
        self._shift = mmap.mmap(-1, 8)  # one clock for all processes
        self._open, self._write = os.open, os.write

    def start_job(self) -> None:
        """In a process that runs jobs, just forked: its own steps are counted."""
        self.who, self.count, self._lock = "job", 0, threading.RLock()
        self._struck.clear()
        self._arm_timers()

    def install(self) -> None:
        """Put the counted calls in the place of this process's."""
        clock = time.time
        time.time = lambda: clock() + struct.unpack("d", self._shift[:8])[0]
        for name in ("mkdir", "rename", "replace", "link", "unlink", "rmdir", "fsync"):
            setattr(os, name, self._counted(name, getattr(os, name)))
        os.open = self._counted_open(os.open)
        opens = io.open
        io.open = builtins.open = self._counted_file(opens)  # type: ignore[assignment]
        sqlalchemy.event.listen(Engine, "before_cursor_execute", self._statement)
        sqlalchemy.event.listen(Engine, "commit", lambda connection: self.step("commit"))
        self._arm_timers()

    def step(self, what: str, halve: Callable[[], None] | None = None) -> None:
        """Count a step, and strike where a fault is due; `halve` does half of a write first."""
        with self._lock:
            self.count += 1
            for number, fault in enumerate(self.faults):
                due = fault.step <= self.count < fault.step + fault.steps
                if due and fault.after_s is None and self._mine(fault):
                    self._strike(number, fault, what, halve)

    def _mine(self, fault: Fault) -> bool:
        return fault.who == self.who and (self.who == "command" or fault.process == self.process)

    def _strike(
        self, number: int, fault: Fault, what: str, halve: Callable[[], None] | None
    ) -> None:
        if number not in self._struck:
            self._struck.add(number)
            self.log("fault", what=what, **asdict(fault))
        if fault.do == "clock":
            self._shift[:8] = struct.pack("d", fault.shift_s)
            return
        if fault.half and halve is not None:
            halve()
        if fault.do == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        code = getattr(errno, fault.do)
        if what in ("statement", "commit"):
            said = SAID_OF_DATABASE.get(fault.do, "disk I/O error")
            raise sqlalchemy.exc.OperationalError(what, None, sqlite3.OperationalError(said))
        raise OSError(code, os.strerror(code), what)

    def log(self, kind: str, **fields: Any) -> None:
        """A line of what was done to this command, on disk before it is done."""
        line = json.dumps({"kind": kind, "at": self.who, "of": self.process, **fields}) + "\n"
        append(self.control / "faults.jsonl", line, self._open, self._write)

    def _arm_timers(self) -> None:
        for number, fault in enumerate(self.faults):
            if fault.after_s is not None and self._mine(fault):
                timer = threading.Timer(
                    fault.after_s, self._strike, (number, fault, "a moment", None)
                )
                timer.daemon = True
                timer.start()

    def _ours(self, path: Any) -> bool:
        if isinstance(path, int):
            return False
        return os.path.abspath(os.fspath(path)).startswith(self.folder)  # noqa: PTH100

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            if name == "fsync" or named.get("dir_fd") is not None or self._ours(arguments[0]):
                self.step(name)
            return call(*arguments, **named)

        return counted

    def _counted_open(self, call: Callable[..., int]) -> Callable[..., int]:
        def counted(path: Any, flags: int, *arguments: Any, **named: Any) -> int:
            if flags & WRITES and self._ours(path):
                self.step("open")
            return call(path, flags, *arguments, **named)

        return counted

    def _counted_file(self, opens: Callable[..., Any]) -> Callable[..., Any]:
        injector = self

        class Counted(io.FileIO):
            def write(self, data: Any) -> int:
                raw = bytes(data)
                halve = super().write
                injector.step("write", lambda: (halve(raw[: len(raw) // 2]), None)[1])
                return super().write(raw)

        def counted(
            file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None,
            errors: str | None = None, newline: str | None = None, *more: Any, **named: Any,
        ) -> Any:  # fmt: skip
            if not set(mode) & set("wax+") or not injector._ours(file):
                return opens(file, mode, buffering, encoding, errors, newline, *more, **named)
            injector.step("open")
            raw = Counted(file, mode.replace("b", "").replace("t", ""))
            if buffering == 0:
                return raw
            buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            if "b" in mode:
                return buffered
            return io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline)

        return counted

    def _statement(self, *arguments: Any) -> None:
        self.step("statement")


def append(
    path: Path,
    line: str,
    opens: Callable[..., int] = os.open,
    writes: Callable[..., int] = os.write,
) -> None:
    """Add a line in one write; `opens` and `writes` are those of before any fault."""
    file = opens(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    try:
        writes(file, line.encode())
    finally:
        os.close(file)
