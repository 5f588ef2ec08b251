"""Whether the files behind the numbers are still those that were recorded."""

from __future__ import annotations

from pathlib import Path

from lwspec.engine.plan import Plan
from lwspec.engine.runfolder import sha256_of
from lwspec.errors import ReportError
from lwspec.report.query import Output, Results, file_of


def verify(plan: Plan, results: Results, runs: Path) -> None:
    """Hold every evaluation of the plan against its recorded hashes.

    Raises ReportError for a file that is gone or has changed: no number is rendered from it.
    """
    for cell in plan.expansion.cells:
        output = results.evaluation(cell)
        if output is not None:
            _verify_files(output, plan.expansion.jobs[cell.evaluate].label, runs)


def _verify_files(output: Output, label: str, runs: Path) -> None:
    for name, sha256 in output.files.items():
        path = file_of(runs, output, name)
        if not path.exists():
            what = "is gone"
        elif sha256_of(path) != sha256:
            what = "has changed since it was recorded"
        else:
            continue
        raise ReportError(
            f"the evidence of {label} {what}",
            where=str(path),
            remedy=f"restore the file, or delete {runs / output.job} and lwspec submit",
        )
