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

    def at(self, running: Running) -> tuple[str, Pace | None]:
        """What a process is at, and how fast."""
        for job in running.pack.jobs:
            folder = self._runs.folder(job.id)
            if not folder.owed(job.outputs):
                continue
            attempts, text = folder.attempts(), f"{job.kind} {job.label}"
            if not attempts or attempts[-1].path.stat().st_mtime < running.started_at:
                return text, None
            pace = self._paces.of(attempts[-1])
            return (text, None) if pace is None else (f"{text} {pace}", pace)
        return running.pack.label, None


class _Lines:
    """A line whenever a job ends, and one every ten seconds."""

    def __init__(self, watch: _Watch, say: Callable[[str], None]) -> None:
        self._watch, self._say = watch, say
        self._last = (-1, -1, -1)
        self._at = 0.0

    def __call__(self, tick: Tick) -> None:
        state, now = (tick.done, tick.failed, tick.cancelled), time.monotonic()
        if state == self._last and now - self._at < LINES_EVERY_S:
            return
        self._last, self._at = state, now
        running = ", ".join(self._watch.at(one)[0] for one in tick.running)
        failed = f" · {tick.failed} failed" if tick.failed else ""
        cancelled = f" · {tick.cancelled} cancelled" if tick.cancelled else ""
        self._say(f"{tick.done}/{tick.jobs} jobs{failed}{cancelled} · {running or 'none running'}")


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
        said = f"jobs{failed}{cancelled}"
        self._progress.update(self._whole, total=tick.jobs, completed=tick.done, description=said)
        current = {one.pack.id: one for one in tick.running}
        for gone in set(self._bars) - set(current):
            self._progress.remove_task(self._bars.pop(gone))
        for pack, one in current.items():
            name, pace = self._watch.at(one)
            text = escape(printable(name))
            if pack not in self._bars:
                self._bars[pack] = self._progress.add_task(text, total=None)
            done, total = (pace.done, pace.total) if pace else (0, None)
            self._progress.update(self._bars[pack], description=text, completed=done, total=total)
