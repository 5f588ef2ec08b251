"""Measurements as an MLflow database with its artifacts, written by MLflow's own client."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lwspec.report.export.trackers import Tracked, client, flattened, new_place

SETTINGS = "settings.json"
"""An artifact of each run with all of its settings; parameters are those that MLflow takes."""
LONGEST_NAME, LONGEST_VALUE = 250, 6000
_NOT_IN_NAMES = re.compile(r"[^\w./ :-]", re.ASCII)
METRICS, PARAMETERS = 1000, 100
"""How many MLflow takes at once."""

Value = TypeVar("Value")


def write_mlflow(spec: str, runs: Sequence[Tracked], folder: Path) -> list[Path]:
    """An experiment with the spec's name, and a run in it for each measurement."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing leaves this machine
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    mlflow = client("mlflow", "mlflow")
    database, artifacts = new_place(folder / "mlflow.db"), new_place(folder / "artifacts")
    tracker = mlflow.MlflowClient(f"sqlite:///{database.resolve()}")
    experiment = tracker.create_experiment(spec, artifact_location=artifacts.resolve().as_uri())
    for run in runs:
        _write(mlflow, tracker, experiment, run)
    return [database, artifacts]


def _write(mlflow: Any, tracker: Any, experiment: str, run: Tracked) -> None:
    entities, ended_ms = mlflow.entities, round(run.ended_at * 1000)
    made = tracker.create_run(
        experiment,
        start_time=round(run.started_at * 1000),
        run_name=run.name,
        tags={**{f"lwspec.{key}": text for key, text in run.tags.items()}, "lwspec.id": run.id},
    )
    id = made.info.run_id
    points = [
        entities.Metric(name, value, ended_ms, step)  # points have no time of their own
        for step, values in [*run.curves, (0, run.metrics)]
        for name, value in values.items()
    ]
    parameters = {
        _NOT_IN_NAMES.sub("_", name)[:LONGEST_NAME]: text
        for name, text in flattened(run.settings)
        if len(text) <= LONGEST_VALUE
    }
    for some in _few(points, METRICS):
        tracker.log_batch(id, metrics=some)
    for names in _few(list(parameters), PARAMETERS):
        tracker.log_batch(id, params=[entities.Param(name, parameters[name]) for name in names])
    tracker.log_dict(id, dict(run.settings), SETTINGS)
    tracker.set_terminated(id, end_time=ended_ms)


def _few(values: Sequence[Value], most: int) -> Iterator[Sequence[Value]]:
    return (values[start : start + most] for start in range(0, len(values), most))
