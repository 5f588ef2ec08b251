"""The evaluator: an arm's test, once, with every prediction and the auditor's record."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import torch
from pyarrow import parquet

from lwspec.engine.job import ROWS_AT_ONCE
from lwspec.kernels.attempt import Attempt
from lwspec.kernels.data.items import Items, drawn_items, open_items
from lwspec.kernels.measuring.measured import open_measured, write_record
from lwspec.kernels.measuring.score import TEXT, Scored, score


def evaluate(attempt: Attempt, device: torch.device) -> None:
    """Test the job's arm once, store every prediction, and write the auditor's record."""
    settings = attempt.job.settings
    sample_seed = attempt.input("data").job().settings["sample_seed"]
    items = drawn_items(open_items(attempt, settings["split"]), settings["rows"], sample_seed)
    arm, setup, checkpoint = open_measured(attempt, items.sender_width, device)
    scored = score(
        attempt,
        arm,
        setup,
        items,
        batch_size=settings.get("batch_size", ROWS_AT_ONCE),
        precision=settings.get("precision", TEXT),
        write=True,
        control=settings.get("control"),
        sample_seed=sample_seed,
    )
    predictions = _write_predictions(attempt, items, scored)
    record = write_record(attempt, len(items.rows), checkpoint, scored.metrics)
    attempt.take(
        "result",
        [predictions, record],
        scored.metrics,
        {"n": len(items.rows), "subset": _is_subset(attempt, items), "checkpoint": checkpoint},
    )


def _is_subset(attempt: Attempt, items: Items) -> bool:
    record = attempt.input("data").taken()["result"]
    return len(items.rows) < int(record["facts"]["rows"][attempt.job.settings["split"]])


def _write_predictions(attempt: Attempt, items: Items, scored: Scored) -> Path:
    columns = {"item": [row.item for row in items.rows], **scored.columns}
    path = attempt.path / "predictions" / f"{attempt.job.settings['split']}.parquet"
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path)
    return path
