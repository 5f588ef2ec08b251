"""A fit: an arm that is trained over epochs, or solved in one step."""

from __future__ import annotations

from dataclasses import replace

import torch

from lwspec.kernels.arm import Arm, Setup
from lwspec.kernels.attempt import Attempt
from lwspec.kernels.data.items import Items, open_items, open_training_items
from lwspec.kernels.measuring.score import score, validation_metrics
from lwspec.kernels.setup import answers_of, open_setup
from lwspec.kernels.training.checkpoint import save_weights
from lwspec.kernels.training.receiver_pass import Steps
from lwspec.kernels.training.trainer import Trainer


def fit(attempt: Attempt, device: torch.device) -> Steps:
    """Train the job's arm until every epoch that it owes was offered."""
    train = open_training_items(attempt)
    validation = open_items(attempt, "validation")
    arm, setup = open_setup(attempt, train.sender_width, device)
    if arm.solve is not None:
        _solve(attempt, arm, setup, train, validation)
        return
    assert arm.build is not None and setup.reader is not None
    answers = answers_of(setup)
    torch.manual_seed(attempt.job.settings["seed"])
    module = arm.build(setup).train()
    setup = replace(setup, module=module)
    yield from Trainer(attempt, arm, setup, module, answers, train, validation).run()


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
    attempt.take(
        "epoch-001",
        [weights],
        {**solved.metrics, **validation_metrics(scored)},
        {
            "samples": len(train.rows),
            "parameters": sum(weight.numel() for weight in solved.weights.values()),
        },
    )
