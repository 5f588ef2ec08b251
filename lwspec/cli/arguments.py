"""The arguments of every verb."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from lwspec import __version__
from lwspec.cli.terminal import printable
from lwspec.engine.redact import redact
from lwspec.errors import UsageError, nearest

if TYPE_CHECKING:
    from lwspec.engine.store.database import Database

Verb = argparse.ArgumentParser

WRONG_CHOICE = re.compile(r"invalid choice: '([^']+)' \(choose from (.+)\)")
"""What argparse says of a word that is none of those it knows."""


class _Parser(argparse.ArgumentParser):
    """Refuses arguments in the words of all other errors."""

    def error(self, message: str) -> NoReturn:
        wrong = WRONG_CHOICE.search(message)
        close = nearest(wrong[1], re.findall(r"[\w-]+", wrong[2])) if wrong else None
        self._refuse(message, close)

    def unknown(self, arguments: Sequence[str]) -> NoReturn:
        """Refuse arguments that this verb does not take."""
        first = arguments[0].partition("=")[0]
        close = nearest(first, re.findall(r"--[\w-]+", self.format_usage()))
        self._refuse(f"unrecognized arguments: {' '.join(arguments)}", close)

    def _refuse(self, what: str, close: str | None) -> NoReturn:
        error = UsageError(what, nearest=close, remedy=f"{self.prog} --help")
        self.exit(error.exit_status, f"lwspec: {printable(redact(str(error)))}\n")


def parser() -> argparse.ArgumentParser:
    """The argument parser of every verb."""
    whole = _Parser(
        prog="lwspec", description="Declare, price, run and publish bridge experiments."
    )
    whole.add_argument("--version", action="version", version=f"lwspec {__version__}")
    verbs = whole.add_subparsers(dest="verb", required=True, metavar="VERB")
    shared = _Parser(add_help=False)
    shared.add_argument(
        "--db",
        type=database,
        default=Path("results.db"),
        help="the database: a file, or postgresql+psycopg://... (default: results.db)",
    )
    shared.add_argument(
        "--runs", type=Path, default=Path("runs"), help="the run folders (default: runs)"
    )
    for name, (does, *takes) in VERBS.items():
        verb = verbs.add_parser(name, help=does, description=does, parents=[shared])
        verb.set_defaults(unknown=verb.unknown)
        for add in takes:
            add(verb)
    return whole


def parse(whole: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """A command line's verb and what it is given; exits where it is none, as argparse does."""
    options, rest = whole.parse_known_args(arguments)
    if rest:
        options.unknown(rest)
    return options


def database(text: str) -> Database:
    """The database's path or address. What may hold a password is not repeated."""
    if "://" not in text:
        return Path(text)
    from lwspec.engine.store.database import address  # SQLAlchemy is for those who name a server

    try:
        return address(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(error.what) from None


def _spec(verb: Verb) -> None:
    verb.add_argument("spec", type=Path, help="a TOML file")


def _spec_or_last(verb: Verb) -> None:
    verb.add_argument("spec", type=Path, nargs="?", help="default: the spec planned last")


def _spec_aside(verb: Verb) -> None:
    verb.add_argument("--spec", type=Path, help="default: the spec planned last")


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


def _starts(verb: Verb) -> None:
    """Of verbs that start jobs."""
    verb.add_argument("--only", metavar="GLOB", help="jobs whose label matches, and their inputs")
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


def _agrees(verb: Verb) -> None:
    verb.add_argument("--yes", action="store_true", help="agree beforehand to what has changed")
    verb.add_argument("--wait", action="store_true", help="until SLURM has done it all")
    verb.add_argument("--dry-run", action="store_true", help="print what sbatch would be given")


def _goes_through(verb: Verb) -> None:
    verb.set_defaults(yes=True, wait=True, dry_run=False)
    verb.add_argument(
        "--paper", type=Path, default=Path("paper"), metavar="DIR", help="default: paper"
    )


def _report(verb: Verb) -> None:
    verb.add_argument(
        "--paper", type=Path, metavar="DIR", help="default: paper, or none with --html"
    )
    verb.add_argument(
        "--html", type=Path, metavar="FILE", help="the results as one page that needs no network"
    )


def _strict(verb: Verb) -> None:
    verb.add_argument("--strict", action="store_true", help="exit 1 where a cell lacks runs")


def _rescan(verb: Verb) -> None:
    verb.add_argument("--rescan", action="store_true", help="look at finished jobs again")


def _json(verb: Verb) -> None:
    verb.add_argument("--json", action="store_true", help="for programs")


def _watch(verb: Verb) -> None:
    verb.add_argument("--watch", action="store_true", help="stay until nothing runs any more")


def _cancel(verb: Verb) -> None:
    verb.add_argument("--only", metavar="GLOB", help="jobs whose kind and label match")


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


def _logs(verb: Verb) -> None:
    verb.add_argument("ref", help="a job's id, or part of its kind and label")


def _bench(verb: Verb) -> None:
    verb.add_argument(
        "--threads", type=int, default=1, help="of a CPU, as a job will have (default: 1)"
    )


def _doctor(verb: Verb) -> None:
    verb.add_argument("spec", type=Path, nargs="?", help="whose models are looked for, too")


def _schema(verb: Verb) -> None:
    verb.add_argument("spec", type=Path, nargs="?", help="whose own arms are in it, too")


def _completion(verb: Verb) -> None:
    verb.add_argument("shell", choices=("bash", "zsh", "fish"))


def _why(verb: Verb) -> None:
    verb.add_argument(
        "ref",
        help=r"TABLE:ROW/COLUMN, a macro such as \MainBridgeTopic or a placeholder, a claim, a "
        "table, a figure, or a job by its id or label",
    )


Takes = Callable[[Verb], None]

VERBS: dict[str, tuple[str, *tuple[Takes, ...]]] = {
    "init": (
        "write a commented spec: of your models and data, or of a toy pair without arguments",
        _init,
    ),
    "plan": (
        "jobs, price against the budget, what changed since the last submit",
        _spec,
        _json,
    ),
    "submit": ("run what the plan lacks", _spec_or_last, _starts, _agrees),
    "status": (
        "every job's state, progress, and what was spent",
        _spec_or_last,
        _rescan,
        _json,
        _watch,
    ),
    "report": (
        "tables, figures, numbers.tex and the paper, or an HTML page, from the records",
        _spec_or_last,
        _report,
        _strict,
        _rescan,
    ),
    "export": (
        "the records as CSV, Parquet or JSON lines, or for MLflow or Weights & Biases",
        _spec_or_last,
        _export,
    ),
    "run": ("submit here, wait, report", _spec, _starts, _goes_through, _strict),
    "logs": ("what a job printed, of its newest attempt", _logs, _spec_aside),
    "cancel": (
        "take jobs back: they stop, and nothing starts them again by itself",
        _spec_or_last,
        _cancel,
    ),
    "retry": (
        "submit what failed, was lost or was cancelled",
        _spec_or_last,
        _starts,
        _agrees,
    ),
    "bench": ("measure this machine, so that plans are priced by what it does", _bench),
    "doctor": (
        "whether this machine has what experiments need, and how to mend what it lacks",
        _doctor,
    ),
    "schema": (
        "the JSON Schema of specs, for editors that complete and check TOML",
        _schema,
    ),
    "completion": (
        "what a shell evaluates to complete verbs, options, specs and jobs",
        _completion,
    ),
    "why": (
        "from a table entry, macro, claim or job to runs, commit, command, hardware",
        _why,
        _spec_aside,
        _json,
    ),
}
"""What each does, and the arguments that it takes, in the order in which help shows them."""
