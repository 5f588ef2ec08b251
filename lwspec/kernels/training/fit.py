"""A fit: an arm that is trained over epochs, or solved in one step."""

from __future__ import annotations

from dataclasses import replace

import torch

from lwspec.kernels.arm import Arm, Setup
from lwspec.kernels.attempt import Attempt
from lwspec.kernels.data.disjoint import check_unseen
from lwspec.kernels.data.items import Items, open_items, open_training_items
from lwspec.kernels.measuring.score import score, validation_metrics
from lwspec.kernels.setup import for_task, open_setup
from lwspec.kernels.training.checkpoint import save_weights
from lwspec.kernels.training.permuted import permuted_answers
from lwspec.kernels.training.receiver_pass import Steps
from lwspec.kernels.training.tasks import TrainingTask, in_common
from lwspec.kernels.training.trainer import Trainer


def fit(attempt: Attempt, device: torch.device) -> Steps:
    """Train the job's arm until every epoch that it owes was offered."""
    parts = [replace(attempt, job=part) for part in attempt.job.parts]
    for part in parts:
        check_unseen(part, ("validation", "test"), parts)
    train = [open_training_items(part) for part in parts]
    if attempt.job.settings.get("permuted_labels"):
        train = [permuted_answers(rows, attempt.job.settings.get("seed", 0)) for rows in train]
    validation = [open_items(part, "validation") for part in parts]
    arm, setup = open_setup(attempt, train[0].sender_width, device)
    if arm.solve is not None:
        _solve(attempt, arm, setup, train[0], validation[0])
        return
    assert arm.build is not None and setup.reader is not None
    setups = [setup, *(for_task(part, arm, setup) for part in parts[1:])]
    shared = replace(setup, task=in_common([each.task for each in setups]))
    torch.manual_seed(attempt.job.settings["seed"])
    module = arm.build(shared).train()
    tasks = [
        TrainingTask(
            part.job.names["task"],
            replace(own, module=module),
            rows,
            held,
            part.job.settings.get("teacher"),
        )
        for part, own, rows, held in zip(parts, setups, train, validation, strict=True)
    ]
    yield from Trainer(attempt, arm, replace(shared, module=module), module, tasks).run()


def _solve(attempt: Attempt, arm: Arm, setup: Setup, train: Items, validation: Items) -> None:
    """Fit in one step; its only epoch is epoch 1."""
    assert arm.solve is not None
    attempt.progress(0, 1, "solving")
    torch.manual_seed(attempt.job.settings.get("seed", 0))
    solved = arm.solve(setup, train.everything(), train.labels, len(setup.task.get("labels", ())))
    setup = replace(setup, weights=solved.weights)
    if arm.build is not None:
        module = arm.build(setup).eval()
        module.load_state_dict(solved.weights)
        setup = replace(setup, module=module)
    scored = score(attempt, arm, setup, validation)
    weights = attempt.path / "weights" / "epoch-001.safetensors"
    save_weights(weights, solved.weights)
    numbers = sum(weight.numel() for weight in solved.weights.values())
    attempt.take(
        "epoch-001",
        [weights],
        {**solved.metrics, **validation_metrics(scored)},
        {
            "samples": len(train.rows),
            "parameters": numbers if solved.parameters is None else solved.parameters,
        },
    )
