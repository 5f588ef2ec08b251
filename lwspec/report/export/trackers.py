"""Finished measurements as the runs of an experiment tracker."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any

from lwspec.errors import UsageError
from lwspec.report.export.tables import Records, measured

TAGS = (
    "job", "fit", "attempt", "finished", "git_sha", "dirty", "hardware", "host", "command",
    "predictions_sha256",
)  # fmt: skip
"""What leads back from a tracker's run to the records."""


@dataclass(frozen=True)
class Tracked:
    """One finished measurement, with the curves of the fit behind it."""

    id: str
    """The same in every export, so that a tracker knows it again."""
    name: str
    group: str
    settings: Mapping[str, Any]
    metrics: Mapping[str, float]
    curves: Sequence[tuple[int, Mapping[str, float]]]
    """Step, and what was reported at it."""
    started_at: float
    ended_at: float
    tags: Mapping[str, str]


def tracked(records: Records) -> list[Tracked]:
    """A run for each finished measurement. Raises UsageError where there is none."""
    curves = _curves(records)
    jobs, attempts = records.plan.expansion.jobs, records.evidence.attempts
    made = []
    for group, row in measured(records):
        if not row["metrics"]:
            continue
        key = f"{row['spec']} {row['experiment']} {row['job']}"
        last = attempts[row["job"], row["attempt"]]
        made.append(
            Tracked(
                hashlib.sha256(key.encode()).hexdigest()[:16],
                f"{row['experiment']} {jobs[row['job']].label}",
                group.experiment,
                {
                    **{k: row[k] for k in ("experiment", "arm", "task", "seed", "point")},
                    **json.loads(row["settings"]),
                },
                row["metrics"],
                curves.get(row["fit"] or row["job"], ()),
                last["started_at"],
                last["ended_at"],
                {k: str(row[k]) for k in TAGS if row[k] is not None},
            )
        )
    if not made:
        raise UsageError("nothing has finished that could be exported", remedy="lwspec submit")
    return made


def _curves(records: Records) -> dict[str, list[tuple[int, dict[str, float]]]]:
    """What each job reported, step by step."""
    curves: dict[str, list[tuple[int, dict[str, float]]]] = {}
    for some in records.points():
        for (job, step), found in groupby(some, key=lambda point: (point[0], point[2])):
            values = {name: value for _, name, _, _, value in found if value is not None}
            steps = curves.setdefault(job, [])
            if steps and steps[-1][0] == step:  # cut in two where it was read
                steps[-1][1].update(values)
            else:
                steps.append((step, values))
    return curves


def new_place(path: Path) -> Path:
    """The path, where nothing lies yet. Raises UsageError where something does.

    An export that was added to an earlier one would show every run twice.
    """
    if path.exists():
        raise UsageError(
            "an earlier export lies there",
            where=str(path),
            remedy="export into another folder with --to, or move this one away",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def flattened(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings under dotted names, each as text."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value if isinstance(value, str) else json.dumps(value)


def client(name: str, extra: str) -> ModuleType:
    """A tracker's own client. Raises UsageError where it is not installed."""
    from importlib import import_module

    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise UsageError(
            f"{name} is not installed", remedy=f"pip install 'lwspec[{extra}]'"
        ) from None
