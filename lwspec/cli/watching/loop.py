"""`lwspec status --watch`: one screen in a terminal, a line for each change in a pipe."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live

from lwspec.cli.session import Project, Session
from lwspec.cli.terminal import printable
from lwspec.cli.told import as_json
from lwspec.cli.watching.pace import Paces
from lwspec.cli.watching.screen import changes, screen
from lwspec.cli.watching.view import View, look
from lwspec.engine.redact import redact
from lwspec.engine.runs.lock import held
from lwspec.engine.runs.states import State

EVERY_S = 2.0

Show = Callable[[View, Session], None]


def watch(options: argparse.Namespace) -> int:
    """Look again and again until nothing runs and nobody starts anything."""
    console, paces = Console(highlight=False), Paces()
    quiet, rescan = options.json or _draws(console), options.rescan
    with _shown(console, options.json) as show:
        while True:
            began = time.monotonic()
            told: list[str] = []
            project = Project(options.spec, options.db, options.runs, warn=told.append)
            session = project.open(rescan=rescan, quiet=quiet)
            quiet, rescan = True, False
            again, trouble = _keep_going(project, session)
            starting = held(options.runs) or bool(session.watched.newest)
            lines = [line for text in told for line in printable(text).splitlines()]
            notes = [*lines, *trouble]
            show(look(session, paces, starting=starting, trouble=notes), session)
            if not (again or session.plan.in_hand or held(options.runs)):
                return 1 if State.FAILED in session.plan.states.values() else 0
            time.sleep(max(EVERY_S, time.monotonic() - began))


def _keep_going(project: Project, session: Session) -> tuple[int, list[str]]:
    """Submit to SLURM again what was submitted and may be tried again; what stands in the way."""
    if not session.watched.newest:
        return 0, []
    from lwspec.cli.slurm import try_again  # submitit is not for every command

    again, trouble = try_again(project, session)
    return again, [] if trouble is None else redact(str(trouble)).splitlines()


def _draws(console: Console) -> bool:
    """Whether there is a screen to draw on."""
    return console.is_terminal and not console.is_dumb_terminal


@contextmanager
def _shown(console: Console, as_program: bool) -> Iterator[Show]:
    if as_program:
        yield _json_lines()
    elif _draws(console):
        with _screen(console) as show:
            yield show
    else:
        yield _lines()


@contextmanager
def _screen(console: Console) -> Iterator[Show]:
    """Draw over what was drawn before; what was drawn last is left behind at the end."""
    ascii_only = not (console.encoding or "").lower().startswith("utf")
    last: list[View] = []

    def drawn(view: View) -> Group:
        lines = screen(view, console.width, console.height, ascii_only=ascii_only)
        return Group(*lines)

    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:

            def show(view: View, session: Session) -> None:
                last[:] = [view]
                live.update(drawn(view), refresh=True)

            yield show
    finally:
        if last:
            console.print(drawn(last[0]))


def _lines() -> Show:
    """Print what has changed since the last look."""
    before: Mapping[str, State] | None = None
    noted: set[str] = set()

    def show(view: View, session: Session) -> None:
        nonlocal before
        new = [note for note in view.notes if note not in noted]
        noted.update(new)
        for line in [*changes(before, view), *new]:
            print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)
        before = view.states

    return show


def _json_lines() -> Show:
    """Print a line of JSON for each state that differs from the one before."""
    before = ""

    def show(view: View, session: Session) -> None:
        nonlocal before
        line = json.dumps(as_json(session))
        if line != before:
            print(line, flush=True)
        before = line

    return show
