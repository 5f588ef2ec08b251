"""Live progress of the local executor: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from lwspec.cli.session import to_stdout
from lwspec.cli.terminal import printable
from lwspec.cli.watching.pace import Pace, Paces
from lwspec.engine.executors.local import Running, Tick
from lwspec.engine.runs.runfolder import Runs

LINES_EVERY_S = 10.0
LOOK_EVERY_S = 0.5
MOST_NAMED = 2
"""Jobs that have just ended, in a line."""


@contextmanager
def observer(runs: Runs) -> Iterator[Callable[[Tick], None]]:
    """A function that shows what the executor is doing each time it is called."""
    console = Console(highlight=False)
    watch = _Watch(runs)
    if not console.is_terminal:
        yield _Lines(watch, to_stdout)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),  # which also shows what has no known total yet
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bars(progress, watch)


@contextmanager
def in_lines(runs: Runs, say: Callable[[str], None]) -> Iterator[Callable[[Tick], None]]:
    """The same as lines, to whoever takes them."""
    yield _Lines(_Watch(runs), say)


class _Watch:
    """What processes are at."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._paces = Paces()

    def at(self, running: Running) -> tuple[str, Pace | None] | None:
        """What a process is at, and how fast; None where it has done all of its jobs."""
        for job in running.pack.jobs:
            folder = self._runs.folder(job.id)
            if not folder.owed(job.outputs):
                continue
            attempts, text = folder.attempts(), f"{job.kind} {job.label}"
            if not attempts or attempts[-1].path.stat().st_mtime < running.started_at:
                return text, None
            pace = self._paces.of(attempts[-1])
            return (text, None) if pace is None else (f"{text} {pace}", pace)
        return None


class _Lines:
    """A line whenever a job ends, and one every ten seconds."""

    def __init__(self, watch: _Watch, say: Callable[[str], None]) -> None:
        self._watch, self._say = watch, say
        self._last = (-1, -1, -1)
        self._told: set[str] = set()
        self._at = 0.0

    def __call__(self, tick: Tick) -> None:
        state = (len(tick.done), tick.failed, tick.cancelled)
        now = time.monotonic()
        if state == self._last and now - self._at < LINES_EVERY_S:
            return
        self._last, self._at = state, now
        done = [f"{job.kind} {job.label}" for job in tick.done if job.id not in self._told]
        self._told.update(job.id for job in tick.done)
        running = [at[0] for one in tick.running if (at := self._watch.at(one))]
        parts = [f"{len(tick.done)}/{tick.jobs} done"]
        if tick.failed:
            parts.append(f"{tick.failed} failed")
        if tick.cancelled:
            parts.append(f"{tick.cancelled} cancelled")
        if done:
            more = f", {len(done) - MOST_NAMED} more" if len(done) > MOST_NAMED else ""
            parts.append(f"done: {', '.join(done[:MOST_NAMED])}{more}")
        parts.append(f"running: {', '.join(running)}" if running else "none running")
        self._say(" · ".join(parts))


class _Bars:
    """One bar over all jobs and one for each process."""

    def __init__(self, progress: Progress, watch: _Watch) -> None:
        self._progress, self._watch = progress, watch
        self._whole = progress.add_task("jobs", total=None)
        self._bars: dict[str, TaskID] = {}
        self._at = 0.0

    def __call__(self, tick: Tick) -> None:
        if time.monotonic() - self._at < LOOK_EVERY_S:
            return
        self._at = time.monotonic()
        failed = f" [red]{tick.failed} failed[/red]" if tick.failed else ""
        cancelled = f" {tick.cancelled} cancelled" if tick.cancelled else ""
        self._progress.update(
            self._whole,
            total=tick.jobs,
            completed=len(tick.done),
            description=f"jobs{failed}{cancelled}",
        )
        current = {one.pack.id: one for one in tick.running}
        for gone in set(self._bars) - set(current):
            self._progress.remove_task(self._bars.pop(gone))
        for pack, one in current.items():
            name, pace = self._watch.at(one) or (one.pack.label, None)
            text = escape(printable(name))
            if pack not in self._bars:
                self._bars[pack] = self._progress.add_task(text, total=None)
            done, total = (pace.done, pace.total) if pace else (0, None)
            self._progress.update(self._bars[pack], description=text, completed=done, total=total)
