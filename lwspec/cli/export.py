"""`lwspec export [SPEC] --to DIR`: the records as files, or for an experiment tracker."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from lwspec.cli.report import read_numbers
from lwspec.cli.session import Session, open_session
from lwspec.errors import UsageError, nearest
from lwspec.report.export.files import FORMATS, write_files
from lwspec.report.export.mlflow import write_mlflow
from lwspec.report.export.tables import TABLES, Records
from lwspec.report.export.trackers import Tracked, tracked
from lwspec.report.export.wandb import write_wandb
from lwspec.report.query import read_points

TRACKERS: dict[str, Callable[[str, Sequence[Tracked], Path], list[Path]]] = {
    "mlflow": write_mlflow,
    "wandb": write_wandb,
}


def main(options: argparse.Namespace) -> int:
    """Write everything that was recorded of the spec, and say where."""
    session = open_session(options.spec, options.db, options.runs)
    for path in export(session, options.to, options.format, intervals=options.intervals):
        print(f"wrote {os.path.relpath(path)}")
    return 0


def export(session: Session, folder: Path, form: str, *, intervals: bool) -> list[Path]:
    """Write the records below a folder, as files or for a tracker.

    Raises UsageError for a form that there is not, ReportError for a record that has changed.
    """
    if form not in (*FORMATS, *TRACKERS):
        raise UsageError(
            f"there is no format {form!r}",
            nearest=nearest(form, [*FORMATS, *TRACKERS]),
            remedy=f"choose among: {', '.join([*FORMATS, *TRACKERS])}",
        )
    if form in TRACKERS and intervals:
        raise UsageError(
            f"{form} takes no intervals, which are of several runs",
            remedy=f"ask for them with one of the formats {', '.join(FORMATS)}",
        )
    records = read_all(session)
    if form in TRACKERS:
        return TRACKERS[form](session.loaded.spec.name, tracked(records), folder)
    wanted = [name for name in TABLES if intervals or name != "estimates"]
    written = write_files([TABLES[name](records) for name in wanted], folder, form)
    records.numbers.save()
    return written


def read_all(session: Session) -> Records:
    """Everything that was recorded of the plan. Raises ReportError for a file that has changed."""
    numbers, evidence = read_numbers(session)
    jobs = list(session.plan.expansion.jobs)
    return Records(numbers, evidence, lambda: read_points(session.store, jobs))
