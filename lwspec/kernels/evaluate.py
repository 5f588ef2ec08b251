"""The evaluator: an arm's test, once, with every prediction and the auditor's record."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import torch
from pyarrow import parquet

from lwspec.engine.runfolder import read_json, write_json
from lwspec.kernels.attempt import Attempt
from lwspec.kernels.checkpoint import load_weights
from lwspec.kernels.items import Items, drawn_items, open_items
from lwspec.kernels.score import DECIDES, TEXT, VALIDATION_BATCH, Scored, score
from lwspec.kernels.setup import open_setup


def evaluate(attempt: Attempt, device: torch.device) -> None:
    """Test the job's arm once, store every prediction, and write the auditor's record."""
    settings = attempt.job.settings
    sample_seed = attempt.input("data").job().settings["sample_seed"]
    items = drawn_items(open_items(attempt, settings["split"]), settings["rows"], sample_seed)
    arm, setup = open_setup(attempt, items, device)
    weights, checkpoint = _weights(attempt) if "fit" in attempt.job.inputs else ({}, None)
    setup = replace(setup, weights=weights)
    if arm.build is not None:
        module = arm.build(setup).to(device).eval()
        module.load_state_dict(weights)
        setup = replace(setup, module=module)
    scored = score(
        attempt,
        arm,
        setup,
        items,
        batch_size=settings.get("batch_size", VALIDATION_BATCH),
        precision=settings.get("precision", TEXT),
        write=True,
    )
    predictions = _write_predictions(attempt, items, scored)
    record = _write_record(attempt, len(items.rows), checkpoint, scored.metrics)
    attempt.take(
        "result",
        [predictions, record],
        scored.metrics,
        {"n": len(items.rows), "subset": _is_subset(attempt, items), "checkpoint": checkpoint},
    )


def _is_subset(attempt: Attempt, items: Items) -> bool:
    record = attempt.input("data").taken()["result"]
    return len(items.rows) < int(record["facts"]["rows"][attempt.job.settings["split"]])


def _weights(attempt: Attempt) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The weights of the epoch that the spec names, checked by hash, and what names them."""
    made = attempt.input("fit")
    ((which, epochs),) = attempt.job.settings["checkpoint"].items()
    taken = made.taken()
    output = f"epoch-{epochs:03d}"
    if which == "best":
        among = [f"epoch-{epoch:03d}" for epoch in range(1, epochs + 1)]
        best = DECIDES[attempt.job.settings["task"]["kind"]]
        output = max(among, key=lambda name: taken[name]["metrics"][f"validation_{best}"])
    name = f"weights/{output}.safetensors"
    sha256 = taken[output]["files"][name]
    weights = load_weights(made.file(output, name), sha256)
    return weights, {"fit": made.path.name, "epoch": int(output[-3:]), "sha256": sha256}


def _write_predictions(attempt: Attempt, items: Items, scored: Scored) -> Path:
    columns = {"item": [row.item for row in items.rows], **scored.columns}
    path = attempt.path / "predictions" / f"{attempt.job.settings['split']}.parquet"
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path)
    return path


def _write_record(
    attempt: Attempt, n: int, checkpoint: dict[str, Any] | None, metrics: Mapping[str, float]
) -> Path:
    """evaluation.json: what the reviewers asked to find with every number."""
    job = attempt.job
    evidence = read_json(attempt.path / "started.json")["evidence"]
    fit = attempt.input("fit").job().settings if "fit" in job.inputs else {}
    path = attempt.path / "evaluation.json"
    write_json(
        path,
        {
            "arm": job.settings["arm"],
            "task": job.names["task"],
            "sender": job.names["sender"],
            "receiver": job.names["receiver"],
            "models": {**_sender_model(attempt), **job.settings["models"]},
            "data": job.inputs["data"],
            "labels": job.settings["task"].get("labels"),
            "split": job.settings["split"],
            "seed": fit.get("seed"),
            "checkpoint": checkpoint,
            "metrics": metrics,
            "n": n,
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "git_sha": evidence["git_sha"],
            "dirty": evidence["dirty"],
            "command": evidence["command"],
            "hardware": evidence["hardware"],
            "host": evidence["host"],
        },
    )
    return path


def _sender_model(attempt: Attempt) -> dict[str, Any]:
    """The sender behind prepared states or texts."""
    for role in ("states", "text"):
        if role in attempt.job.inputs:
            return {"sender": attempt.input(role).job().settings["model"]}
    return {}
