"""Whether what stands behind the numbers is still what was recorded, from files to the database.

One number that was edited anywhere on the way is noticed:

    predictions, weights, rows, texts, evaluation.json    by their hashes in the output's record
    the record of an output, exit.json                    by the checksum that they hold
    started.json, events.jsonl, code.diff                 by their hashes in exit.json
    settings in job.json                                  by the job's id
    results.db                                            against those records
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lwspec.engine.job import Job, Kind
from lwspec.engine.plan.fingerprint import Fingerprints
from lwspec.engine.plan.plan import Plan
from lwspec.engine.runs.attempt import AttemptFolder
from lwspec.engine.runs.checksum import differs, sha256_of
from lwspec.engine.runs.recorded import to_mend
from lwspec.engine.runs.runfolder import MADE_ANEW, JobFolder, Runs
from lwspec.errors import ReportError, RunFolderError
from lwspec.report.evidence import Evidence
from lwspec.report.query import Output, Results, epoch_name, file_of

MEASURED: Mapping[Kind, str] = {
    "evaluate": "predictions/test.parquet",
    "latency": "evaluation.json",
}
"""The file without which a measurement is a number and nothing more."""
ENDED = ("outcome", "message", "wall_s", "device_s", "peak_bytes")
"""What the store holds of an attempt's end."""
EVIDENCE = ("host", "hardware", "git_sha", "dirty", "command")
"""And, beside the whole of it, of what it said when it started."""


def verify(plan: Plan, results: Results, evidence: Evidence, runs: Path) -> None:
    """Hold what the store says of a plan against the run folders, and these against their hashes.

    What may be large is hashed again only where size or time of change differ from the last look.
    Raises ReportError for what is gone or has changed: no number is rendered from it.
    """
    remembered = Fingerprints(runs / "cache" / "fingerprints.json")
    for job in plan.expansion.jobs.values():
        if job.id in results.outputs:
            _job(job, results.outputs[job.id], Runs(runs).folder(job.id))
            _files(job, results.outputs[job.id], runs, remembered)
    for (job_id, number), row in evidence.attempts.items():
        folder = Runs(runs).folder(job_id).path / f"attempt-{number}"
        _attempt(plan.expansion.jobs[job_id].label, row, AttemptFolder(folder))
    _weights(plan, results, runs, remembered)
    remembered.save()


def _job(job: Job, outputs: Mapping[str, Output], folder: JobFolder) -> None:
    """Hold a job's settings against its id, and what the store says of its outputs against them."""
    try:
        folder.check_identity()
        taken = folder.taken()
    except RunFolderError as error:
        raise _unreliable(job.label, error, folder.path) from None
    for name, output in outputs.items():
        path = folder.path / "taken" / f"{name}.json"
        if name not in taken:
            raise _damaged(job.label, "is gone", path, [folder.path])
        record = taken[name]
        numbers = {
            metric: value
            for metric, value in record["metrics"].items()
            if value is not None and math.isfinite(value)
        }
        said = {**record, "metrics": numbers}
        for key in ("attempt", "metrics", "files", "facts"):
            _compare(f"{key} of {job.label}", getattr(output, key), said[key], path)


def _files(job: Job, outputs: Mapping[str, Output], runs: Path, remembered: Fingerprints) -> None:
    """Hold the files of a job's outputs against their hashes; weights are held by `_weights`."""
    if job.kind == "fit" or job.step in MADE_ANEW:
        return

    def hash_of(path: Path) -> str:
        return remembered.of(path).sha256 if job.kind == "prepare" else sha256_of(path)

    for output in outputs.values():
        if job.kind in MEASURED:
            _check_named(output, MEASURED[job.kind], job.label, runs)
        for name, sha256 in output.files.items():
            path = file_of(runs, output, name)
            _check(path, sha256, hash_of, job.label, [runs / job.id])


def _weights(plan: Plan, results: Results, runs: Path, remembered: Fingerprints) -> None:
    """Hold the weights that were measured against what their measurements say of them."""
    for cell in plan.expansion.cells:
        output = results.evaluation(cell)
        checkpoint = output.facts.get("checkpoint") if output else None
        if output and checkpoint and cell.fit is not None:
            epoch = epoch_name(checkpoint["epoch"])
            path = file_of(runs, results.outputs[cell.fit][epoch], f"weights/{epoch}.safetensors")
            label, folders = plan.expansion.jobs[cell.evaluate].label, [cell.fit, output.job]
            _check(
                path,
                checkpoint["sha256"],
                lambda path: remembered.of(path).sha256,
                label,
                [runs / folder for folder in folders],
            )


def _attempt(label: str, row: Mapping[str, Any], folder: AttemptFolder) -> None:
    """Hold what the store says of an attempt that has ended against what it wrote."""
    try:
        started, ended = folder.started(), folder.ended()
    except RunFolderError as error:
        raise _unreliable(label, error, folder.path.parent) from None
    if row["ended_at"] is None:  # read anew by each command, until it has ended
        return
    if ended is None:
        raise _damaged(label, "is gone", folder.path / "exit.json", [folder.path.parent])
    for path, what in folder.differing():
        raise _damaged(label, what, path, [folder.path.parent])
    evidence = started.get("evidence", {})
    said = {**ended, **{key: evidence.get(key) for key in EVIDENCE}, "evidence": evidence}
    for key in (*ENDED, *EVIDENCE, "evidence"):
        path = folder.path / ("exit.json" if key in ENDED else "started.json")
        _compare(f"{key} of {label}", row[key], said.get(key), path)


def _compare(what: str, stored: Any, recorded: Any, path: Path) -> None:
    if stored != recorded and _text(stored) != _text(recorded):
        raise ReportError(
            f"the database and the records disagree about the {what}"
            f"{_difference(stored, recorded)}",
            where=str(path),
            remedy="lwspec report --rescan reads the records again",
        )


def _text(value: Any) -> str:
    """By which what holds numbers that are none, NaN, is alike too."""
    return json.dumps(value, sort_keys=True)


def _difference(stored: Any, recorded: Any) -> str:
    """The first thing that differs."""
    if isinstance(stored, Mapping) and isinstance(recorded, Mapping):
        for key in sorted({*stored, *recorded}):
            if stored.get(key) != recorded.get(key):
                return f" ({key}){_difference(stored.get(key), recorded.get(key))}"
    return f": {stored!r}, and recorded was {recorded!r}"


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
    if what := differs(path, sha256, hash_of):
        raise _damaged(label, what, path, folders)


def _unreliable(label: str, error: RunFolderError, folder: Path) -> ReportError:
    path = Path(error.where or folder)
    return _damaged(label, f"cannot be relied on: {error.what}", path, [folder])


def _damaged(label: str, what: str, path: Path, folders: Sequence[Path]) -> ReportError:
    return ReportError(
        f"the evidence of {label} {what}",
        where=str(path),
        remedy=to_mend(*folders),
    )
