"""The command line: its arguments, and verbs over a project that may be damaged."""

from __future__ import annotations

import contextlib
import io
import shlex
import shutil
from pathlib import Path

from tests.fuzz.mutation import Choices, tokens
from tests.fuzz.specs import Case, write

LINES = (
    "plan quickstart.toml --json", "plan small.toml --db other.db --runs other",
    "submit --executor slurm --cluster here --only *topic* --wait --dry-run --no-snapshot --yes",
    "status --json --rescan", "status --watch", "report --paper paper --html page.html --strict",
    "run quickstart.toml --paper paper", "logs prepare data topic", "cancel --only *topic*",
    "retry --only topic --yes", "bench --threads 2", "doctor small.toml", "schema small.toml",
    "why main:bridge/topic --spec quickstart.toml --json", "--version",
)  # fmt: skip

READING = (
    "plan quickstart.toml", "plan small.toml --json", "status quickstart.toml",
    "status --json", "logs 'data topic'", "logs prepare --spec quickstart.toml",
    "why main:bridge/topic", "why 'data topic' --json", "cancel quickstart.toml --only '*topic*'",
    "schema quickstart.toml",
)  # fmt: skip
"""Verbs that start nothing."""


def _words(text: str) -> list[str]:
    """As a shell would, or between spaces where a quotation has no end."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def arguments(world: Path, folder: Path) -> Case:
    """The parser alone, of every verb."""
    from lwspec.cli.arguments import parser

    seeds, ours = [tokens(line) for line in LINES], parser()

    def case(choices: Choices) -> None:
        words = _words(choices.text(seeds))
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            ours.parse_args(words)

    return case


def verbs(world: Path, folder: Path) -> Case:
    """A whole command that starts nothing, its arguments or one file of the project damaged."""
    from lwspec.cli import main
    from lwspec.cli.arguments import parser
    from lwspec.engine.runs.evidence import PACKAGE, git_state

    git_state(PACKAGE.parent)  # asks git, once in a process
    shutil.copytree(world, folder, dirs_exist_ok=True)
    for submission in (folder / "runs/submissions").iterdir():
        shutil.rmtree(submission)  # would ask squeue
    (job,) = (folder / "runs").glob("prepare-*")
    names = ("job.json", "attempt-1/started.json", "attempt-1/exit.json", "taken/result.json")
    paths = [job / name for name in names] + [
        folder / "runs/plans/quickstart.shown.json", folder / "runs/plans/last.json",
        folder / "quickstart.toml", folder / "paper.tex",
    ]  # fmt: skip
    originals = {path: path.read_bytes() for path in paths}
    seeds = {path: [tokens(raw.decode())] for path, raw in originals.items()}
    lines = [tokens(line) for line in READING]
    allowed = {line.split()[0] for line in READING}

    def case(choices: Choices) -> None:
        damaged = paths[choices.number(len(paths) - 1)] if choices.number(2) else None
        if damaged is not None:
            choices.note(damaged.name)
            damaged.unlink()
            write(damaged, choices.text(seeds[damaged]))
        plain = damaged is not None
        words = shlex.split(choices.one_of(READING)) if plain else _words(choices.text(lines))
        choices.note(words)
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                options = parser().parse_args(words)
                if options.verb in allowed and not getattr(options, "watch", False):
                    main(words)
        finally:
            (job / "cancelled.json").unlink(missing_ok=True)
            if damaged is not None:
                damaged.unlink(missing_ok=True)
                damaged.write_bytes(originals[damaged])

    return case
