"""What scoring and timing share: the arm with the weights that are measured, and the record."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lwspec.engine.metrics import DECIDES
from lwspec.engine.runs.jsonfile import read_json, write_json
from lwspec.kernels.arm import Arm, Setup
from lwspec.kernels.attempt import Attempt
from lwspec.kernels.data.disjoint import check_unseen
from lwspec.kernels.setup import open_setup
from lwspec.kernels.training.checkpoint import load_weights


def open_measured(
    attempt: Attempt, sender_width: int | None, device: torch.device
) -> tuple[Arm, Setup, dict[str, Any] | None]:
    """The job's arm with the weights of its fit, and what names them.

    Without a fit a trainable arm is as it is initialised from the job's seed.
    """
    arm, setup = open_setup(attempt, sender_width, device)
    weights, checkpoint = _weights(attempt) if "fit" in attempt.job.inputs else ({}, None)
    setup = replace(setup, weights=weights)
    if arm.build is not None:
        torch.manual_seed(attempt.job.settings.get("seed", 0))
        module = arm.build(setup).eval()
        if checkpoint is not None:
            module.load_state_dict(weights)
        setup = replace(setup, module=module)
    return arm, setup, checkpoint


def _weights(attempt: Attempt) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The weights of the epoch that the spec names, checked by hash, and what names them.

    Raises DataError where the fit was trained, through another task, on texts that are measured.
    """
    made = attempt.input("fit")
    trained = [replace(attempt, job=part) for part in made.job().parts]
    check_unseen(attempt, [attempt.job.settings.get("split", "test")], trained)
    ((which, epochs),) = attempt.job.settings["checkpoint"].items()
    taken = made.taken()
    output = f"epoch-{epochs:03d}"
    if which == "best":
        among = [f"epoch-{epoch:03d}" for epoch in range(1, epochs + 1)]
        best = DECIDES[made.job().settings["task"]["kind"]]
        output = max(among, key=lambda name: taken[name]["metrics"][f"validation_{best}"])
    name = f"weights/{output}.safetensors"
    sha256 = taken[output]["files"][name]
    weights = load_weights(made.file(output, name), sha256)
    return weights, {"fit": made.path.name, "epoch": int(output[-3:]), "sha256": sha256}


def write_record(
    attempt: Attempt, n: int, checkpoint: dict[str, Any] | None, metrics: Mapping[str, float]
) -> Path:
    """evaluation.json: what the reviewers asked to find with every number."""
    job = attempt.job
    evidence = read_json(attempt.path / "started.json")["evidence"]
    fit = attempt.input("fit").job().settings if "fit" in job.inputs else {}
    control = {"control": job.settings["control"]} if "control" in job.settings else {}
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
            "split": job.settings.get("split", "test"),
            "seed": fit.get("seed", job.settings.get("seed")),
            **control,
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
    for role in ("states", "pooled", "text"):
        if role in attempt.job.inputs:
            return {"sender": attempt.input(role).job().settings["model"]}
    return {}
