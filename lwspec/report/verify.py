"""Whether the files behind the numbers are still those that were recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from lwspec.engine.expand import Cell
from lwspec.engine.fingerprint import Fingerprints
from lwspec.engine.job import Kind
from lwspec.engine.plan import Plan
from lwspec.engine.runfolder import sha256_of
from lwspec.errors import ReportError
from lwspec.report.query import Output, Results, epoch_name, file_of

EVIDENCE: Mapping[Kind, str] = {
    "evaluate": "predictions/test.parquet",
    "latency": "evaluation.json",
}
"""The file without which a measurement is a number and nothing more."""


def verify(plan: Plan, results: Results, runs: Path) -> None:
    """Hold every evaluation of the plan, and the weights that it measured, against their hashes.

    Weights are hashed again only where size or time of change differ from the last look. Raises
    ReportError for a file that is gone or has changed: no number is rendered from it.
    """
    remembered = Fingerprints(runs / "cache" / "fingerprints.json")
    for cell in plan.expansion.cells:
        output = results.evaluation(cell)
        if output is None:
            continue
        job = plan.expansion.jobs[cell.evaluate]
        label = job.label
        _check_named(output, EVIDENCE[job.kind], label, runs)
        for name, sha256 in output.files.items():
            _check(file_of(runs, output, name), sha256, sha256_of, label, [runs / output.job])
        for path, sha256 in _weights(cell, output, results, runs):
            folders = [runs / str(cell.fit), runs / output.job]
            _check(path, sha256, lambda path: remembered.of(path).sha256, label, folders)
    remembered.save()


def _weights(
    cell: Cell, output: Output, results: Results, runs: Path
) -> Iterator[tuple[Path, str]]:
    """The file of weights that an evaluation measured, with its hash."""
    checkpoint = output.facts.get("checkpoint")
    if checkpoint and cell.fit is not None:
        epoch = epoch_name(checkpoint["epoch"])
        made = results.outputs[cell.fit][epoch]
        yield file_of(runs, made, f"weights/{epoch}.safetensors"), checkpoint["sha256"]


def _check_named(output: Output, name: str, label: str, runs: Path) -> None:
    """Raise ReportError for a record that names no evidence of its numbers."""
    if name not in output.files:
        raise ReportError(
            f"the record of {label} names no {name}: nothing stands behind its numbers",
            where=str(runs / output.job / "taken" / f"{output.name}.json"),
            remedy=f"delete {runs / output.job}, then lwspec submit",
        )


def _check(
    path: Path, sha256: str, hash_of: Callable[[Path], str], label: str, folders: Sequence[Path]
) -> None:
    if not path.exists():
        what = "is gone"
    elif hash_of(path) != sha256:
        what = "has changed since it was recorded"
    else:
        return
    raise ReportError(
        f"the evidence of {label} {what}",
        where=str(path),
        remedy=f"restore the file, or delete {' and '.join(map(str, folders))}, then lwspec submit",
    )
