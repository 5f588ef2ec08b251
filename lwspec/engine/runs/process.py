"""Whether the process behind an attempt still lives."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """What names this process beyond its reusable number: host, boot and time of start."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "start": _start(os.getpid())}


def is_here(process: Mapping[str, Any] | None) -> bool:
    """Whether a process named by `this_process` is or was one of this host."""
    return process is not None and process.get("host") == socket.gethostname()


def lives(process: Mapping[str, Any] | None) -> bool:
    """Whether a process named by `this_process` runs on this host; False on another host."""
    if process is None or not is_here(process):
        return False
    start = _start(process["pid"])
    return start is not None and start == process["start"]


def _start(pid: int) -> str | None:
    """Boot id and start tick of a process that runs; None for one that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    state, start_tick = fields[0], fields[19]
    return None if state in "ZX" else f"{boot} {start_tick}"
