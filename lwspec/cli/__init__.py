"""The command line: `main` reads the arguments, one module a verb does the work."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from lwspec import __version__
from lwspec.cli.terminal import printable
from lwspec.engine.modes import keep_the_world_out
from lwspec.engine.redact import redact
from lwspec.errors import LwspecError, UsageError

if TYPE_CHECKING:
    from lwspec.engine.store.database import Database

VERBS = {
    "init": "write a commented spec: of your models and data, or of a toy pair without arguments",
    "plan": "jobs, price against the budget, what changed since the last submit",
    "submit": "run what the plan lacks",
    "status": "every job's state, progress, and what was spent",
    "report": "tables, figures, numbers.tex and the paper, or an HTML page, from the records",
    "export": "the records as CSV, Parquet or JSON lines, or for MLflow or Weights & Biases",
    "run": "submit here, wait, report",
    "logs": "what a job printed, of its newest attempt",
    "cancel": "take jobs back: they stop, and nothing starts them again by itself",
    "retry": "submit what failed, was lost or was cancelled",
    "bench": "measure this machine, so that plans are priced by what it does",
    "doctor": "whether this machine has what experiments need, and how to mend what it lacks",
    "schema": "the JSON Schema of specs, for editors that complete and check TOML",
    "completion": "what a shell evaluates to complete verbs, options, specs and jobs",
    "why": "from a table entry, macro, claim or job to runs, commit, command, hardware",
}


def parser() -> argparse.ArgumentParser:
    """The argument parser of every verb."""
    whole = argparse.ArgumentParser(
        prog="lwspec", description="Declare, price, run and publish bridge experiments."
    )
    whole.add_argument("--version", action="version", version=f"lwspec {__version__}")
    verbs = whole.add_subparsers(dest="verb", required=True, metavar="VERB")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--db",
        type=database,
        default=Path("results.db"),
        help="the database: a file, or postgresql+psycopg://... (default: results.db)",
    )
    shared.add_argument(
        "--runs", type=Path, default=Path("runs"), help="the run folders (default: runs)"
    )
    for name, help_text in VERBS.items():
        verb = verbs.add_parser(name, help=help_text, description=help_text, parents=[shared])
        _arguments(name, verb)
    return whole


def _arguments(name: str, verb: argparse.ArgumentParser) -> None:
    if name == "why":
        verb.add_argument(
            "ref",
            help=r"TABLE:ROW/COLUMN, a macro such as \MainBridgeTopic or a placeholder, a claim, a "
            "table, a figure, or a job by its id or label",
        )
        verb.add_argument("--spec", type=Path, help="default: the spec planned last")
    elif name == "logs":
        verb.add_argument("ref", help="a job's id, or part of its kind and label")
        verb.add_argument("--spec", type=Path, help="default: the spec planned last")
    elif name == "bench":
        verb.add_argument(
            "--threads", type=int, default=1, help="of a CPU, as a job will have (default: 1)"
        )
    elif name == "schema":
        verb.add_argument("spec", type=Path, nargs="?", help="whose own arms are in it, too")
    elif name == "doctor":
        verb.add_argument("spec", type=Path, nargs="?", help="whose models are looked for, too")
    elif name == "completion":
        verb.add_argument("shell", choices=("bash", "zsh", "fish"))
    elif name == "init":
        _init(verb)
    elif name in ("plan", "run"):
        verb.add_argument("spec", type=Path, help="a TOML file")
    else:
        verb.add_argument("spec", type=Path, nargs="?", help="default: the spec planned last")
    if name in ("submit", "run", "retry"):
        verb.add_argument(
            "--only", metavar="GLOB", help="jobs whose label matches, and their inputs"
        )
        _executor(verb)
    if name in ("submit", "retry"):
        verb.add_argument("--yes", action="store_true", help="agree beforehand to what has changed")
        verb.add_argument("--wait", action="store_true", help="until SLURM has done it all")
        verb.add_argument("--dry-run", action="store_true", help="print what sbatch would be given")
    if name == "run":
        verb.set_defaults(yes=True, wait=True, dry_run=False)
    if name == "cancel":
        verb.add_argument("--only", metavar="GLOB", help="jobs whose kind and label match")
    if name == "report":
        verb.add_argument(
            "--paper", type=Path, metavar="DIR", help="default: paper, or none with --html"
        )
        verb.add_argument(
            "--html",
            type=Path,
            metavar="FILE",
            help="the results as one page that needs no network",
        )
    if name == "run":
        verb.add_argument(
            "--paper", type=Path, default=Path("paper"), metavar="DIR", help="default: paper"
        )
    if name in ("report", "run"):
        verb.add_argument("--strict", action="store_true", help="exit 1 where a cell lacks runs")
    if name == "export":
        _export(verb)
    if name in ("report", "status"):
        verb.add_argument("--rescan", action="store_true", help="look at finished jobs again")
    if name in ("plan", "status", "why"):
        verb.add_argument("--json", action="store_true", help="for programs")
    if name == "status":
        verb.add_argument("--watch", action="store_true", help="stay until nothing runs any more")


def _init(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "spec", type=Path, nargs="?", default=Path("spec.toml"), help="default: spec.toml"
    )
    model = "a folder with a config.json, or a hub id such as org/name"
    verb.add_argument("--sender", metavar="MODEL", help=model)
    verb.add_argument("--receiver", metavar="MODEL", help=model)
    verb.add_argument(
        "--task",
        action="append",
        default=[],
        metavar="NAME=FILE[,TEST]",
        help="rows of a task of your own (csv, jsonl, parquet), or the NAME alone of a known one",
    )


def _export(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--to", type=Path, default=Path("export"), metavar="DIR", help="default: export"
    )
    verb.add_argument(
        "--format",
        choices=("csv", "parquet", "jsonl", "mlflow", "wandb"),
        default="csv",
        help="files, or what a tracker's own client writes (default: csv)",
    )
    verb.add_argument(
        "--intervals",
        action="store_true",
        help="also estimates, which are means over seeds with their intervals",
    )


def database(text: str) -> Database:
    """The database's path or address. What may hold a password is not repeated."""
    if "://" not in text:
        return Path(text)
    from lwspec.engine.store.database import address  # SQLAlchemy is for those who name a server

    try:
        return address(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(error.what) from None


def _executor(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--executor", choices=("local", "slurm"), help="default: local, slurm with --cluster"
    )
    verb.add_argument("--cluster", metavar="NAME", help="a [cluster.NAME] table of the spec")
    verb.add_argument(
        "--no-snapshot",
        dest="snapshot",
        action="store_false",
        help="jobs run the code as it is when they start, not as it is now",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    whole = parser()
    if "_ARGCOMPLETE" in os.environ:
        from lwspec.cli.completion import answer  # argcomplete is for shells that ask

        answer(whole)
    options = whole.parse_args(arguments)
    keep_the_world_out()
    try:
        verb = import_module(f"lwspec.cli.{options.verb}")
        status: int = verb.main(options)
    except LwspecError as error:
        print(f"lwspec: {printable(redact(str(error)))}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        what = printable(redact(f"{error.filename or 'writing'}: {error.strerror or error}"))
        print(
            f"lwspec: {what}\n"
            "  next: mend the path, its permissions or the disk; then the same command goes on",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("lwspec: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return status
