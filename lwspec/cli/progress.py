"""Live progress of the local executor: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from lwspec.engine.job import Job
from lwspec.engine.local import Running, Tick
from lwspec.engine.runfolder import Runs

LINES_EVERY_S = 10.0
LOOK_EVERY_S = 0.5


@contextmanager
def observer(jobs: Mapping[str, Job], runs: Runs) -> Iterator[Callable[[Tick], None]]:
    """A function that shows what the executor is doing each time it is called."""
    console = Console(highlight=False)
    if not console.is_terminal:
        yield _Lines(runs)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bars(progress, runs)


class _Lines:
    """A line whenever a job ends, and one every ten seconds."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._last: tuple[int, int] = (-1, -1)
        self._at = 0.0

    def __call__(self, tick: Tick) -> None:
        state, now = (tick.done, tick.failed), time.monotonic()
        if state == self._last and now - self._at < LINES_EVERY_S:
            return
        self._last, self._at = state, now
        running = ", ".join(_what(self._runs, one)[0] for one in tick.running)
        failed = f" · {tick.failed} failed" if tick.failed else ""
        print(f"{tick.done}/{tick.jobs} jobs{failed} · {running or 'none running'}", flush=True)


class _Bars:
    """One bar over all jobs and one for each process."""

    def __init__(self, progress: Progress, runs: Runs) -> None:
        self._progress, self._runs = progress, runs
        self._whole = progress.add_task("jobs", total=None)
        self._bars: dict[str, TaskID] = {}
        self._at = 0.0

    def __call__(self, tick: Tick) -> None:
        if time.monotonic() - self._at < LOOK_EVERY_S:
            return
        self._at = time.monotonic()
        failed = f" [red]{tick.failed} failed[/red]" if tick.failed else ""
        self._progress.update(
            self._whole, total=tick.jobs, completed=tick.done, description=f"jobs{failed}"
        )
        current = {one.pack.id: one for one in tick.running}
        for gone in set(self._bars) - set(current):
            self._progress.remove_task(self._bars.pop(gone))
        for pack, one in current.items():
            text, event = _what(self._runs, one)
            if pack not in self._bars:
                self._bars[pack] = self._progress.add_task(text, total=None)
            done, total = (event["done"], event["total"]) if event else (0, None)
            self._progress.update(self._bars[pack], description=text, completed=done, total=total)


def _what(runs: Runs, running: Running) -> tuple[str, dict[str, Any] | None]:
    """What a process is at, and its newest progress event."""
    for job in running.pack.jobs:
        folder = runs.folder(job.id)
        if not folder.owed(job):
            continue
        attempts = folder.attempts()
        events = attempts[-1].events()[0] if attempts else []
        progress = [event for event in events if event["event"] == "progress"]
        text = f"{job.kind} {job.label}"
        if not progress:
            return text, None
        newest = progress[-1]
        rate = ""
        if len(progress) > 1 and newest["time"] > progress[0]["time"]:
            speed = (newest["done"] - progress[0]["done"]) / (newest["time"] - progress[0]["time"])
            rate = f" {speed:.1f}/s" if speed > 0 else ""
        return f"{text} {newest['what']} {newest['done']}/{newest['total']}{rate}", newest
    return running.pack.label, None
