"""The trainer: one loop for every arm that is trained, and one step for those that are solved.

After each epoch it validates, stores the weights and offers the epoch as an output; from then on
nothing can take it back. Checkpoints hold everything that the next step depends on, so a fit that
was killed at any point ends with the same weights as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from lwspec.errors import CheckpointError
from lwspec.kernels.arm import Arm, Setup
from lwspec.kernels.attempt import Attempt
from lwspec.kernels.checkpoint import (
    Progress,
    complete_checkpoints,
    load_checkpoint,
    save_checkpoint,
    save_weights,
)
from lwspec.kernels.items import Items, open_items, open_training_items
from lwspec.kernels.score import Scored, score
from lwspec.kernels.setup import Answers, answers_of, no_messages, open_setup, present_all

LOG_EVERY_STEPS = 10


def fit(attempt: Attempt, device: torch.device) -> None:
    """Train the job's arm until every epoch that it owes was offered."""
    train = open_training_items(attempt)
    validation = open_items(attempt, "validation")
    arm, setup = open_setup(attempt, train, device)
    if arm.solve is not None:
        _solve(attempt, arm, setup, train, validation)
        return
    assert arm.build is not None and setup.reader is not None
    answers = answers_of(setup)
    torch.manual_seed(attempt.job.settings["seed"])
    module = arm.build(setup).to(device).train()
    setup = replace(setup, module=module)
    _Trainer(attempt, arm, setup, module, answers, train, validation).run()


def _solve(attempt: Attempt, arm: Arm, setup: Setup, train: Items, validation: Items) -> None:
    """Fit in one step; its only epoch is epoch 1."""
    assert arm.solve is not None
    attempt.progress(0, 1, "solving")
    torch.manual_seed(attempt.job.settings.get("seed", 0))
    solved = arm.solve(setup, train.everything(), train.labels, len(setup.task.get("labels", ())))
    scored = score(attempt, arm, replace(setup, weights=solved.weights), validation)
    weights = attempt.path / "weights" / "epoch-001.safetensors"
    save_weights(weights, solved.weights)
    attempt.take(
        "epoch-001",
        [weights],
        {**solved.metrics, **_validation(scored)},
        {
            "samples": len(train.rows),
            "parameters": sum(weight.numel() for weight in solved.weights.values()),
        },
    )


def _validation(scored: Scored) -> dict[str, float]:
    return {f"validation_{name}": value for name, value in scored.metrics.items()}


@dataclass
class _Trainer:
    attempt: Attempt
    arm: Arm
    setup: Setup
    module: nn.Module
    answers: Answers
    train: Items
    validation: Items

    def __post_init__(self) -> None:
        self.settings: dict[str, Any] = dict(self.attempt.job.settings["train"])
        self.seed: int = self.attempt.job.settings["seed"]
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=self.settings["learning_rate"],
            weight_decay=self.settings["weight_decay"],
        )
        self.steps_per_epoch = math.ceil(len(self.train.rows) / self.settings["batch_size"])
        self.epochs = len(self.attempt.job.outputs)

    def run(self) -> None:
        """Go on from the furthest readable checkpoint to the last epoch that is owed."""
        progress = self._resume()
        while progress.epoch <= self.epochs:
            if progress.step_in_epoch < self.steps_per_epoch:
                self._epoch(progress)
            self._finish_epoch(progress)
            progress = Progress(epoch=progress.epoch + 1, step=progress.step)

    def _resume(self) -> Progress:
        for place in complete_checkpoints(self.attempt.job_folder):
            try:
                progress = load_checkpoint(place, self.module, self.optimizer)
            except CheckpointError as error:
                self.attempt.event("checkpoint_unreadable", where=str(place), what=str(error))
                continue
            self.attempt.event("resumed", step=progress.step, epoch=progress.epoch)
            return progress
        return Progress()

    def _epoch(self, progress: Progress) -> None:
        """Train to the end of an epoch, then store a checkpoint."""
        order = epoch_order(len(self.train.rows), self.seed, progress.epoch)
        size, total = self.settings["batch_size"], self.epochs * self.steps_per_epoch
        for step in range(progress.step_in_epoch, self.steps_per_epoch):
            reason = self.attempt.why_stop()
            if reason is not None or self.attempt.checkpoint_due():
                self._checkpoint(progress)
            if reason is not None:
                raise reason
            loss = self._step(order[step * size : (step + 1) * size], progress.step)
            progress.step += 1
            progress.step_in_epoch += 1
            progress.loss_sum += loss
            self.attempt.progress(progress.step, total, f"epoch {progress.epoch}")
            if progress.step % LOG_EVERY_STEPS == 0:
                self.attempt.event("metric", step=progress.step, values={"train_loss": loss})
        self._checkpoint(progress)

    def _step(self, indices: Sequence[int], step: int) -> float:
        """One update; returns the answer's cross-entropy of the batch."""
        assert self.setup.reader is not None
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings["learning_rate"] * self._rate(step)
        batch = self.train.batch(indices)
        messages = no_messages(indices)
        if self.arm.message is not None:
            messages = self.arm.message(self.setup, batch)
        prompts = present_all(self.arm, self.setup, messages, batch.contexts)
        targets = [self.train.rows[index].target for index in indices]
        said = [[*self.answers.ids(target), self.setup.reader.eos] for target in targets]
        answer_loss = self.setup.reader.answer_loss(prompts, said)
        loss = answer_loss
        if self.arm.loss is not None:
            loss = loss + self.arm.loss(self.setup, messages)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, self.settings["clip_norm"])
        self.optimizer.step()
        return float(answer_loss.detach())

    def _rate(self, step: int) -> float:
        """The learning rate's factor: linear warm-up, then constant or a cosine to zero."""
        warmup: int = self.settings["warmup_steps"]
        if step < warmup:
            return (step + 1) / warmup
        if self.settings["schedule"] == "constant":
            return 1.0
        whole = self.settings["epochs"] * self.steps_per_epoch - warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, whole)))

    def _checkpoint(self, progress: Progress) -> None:
        place = save_checkpoint(
            self.attempt.path / "checkpoints", self.module, self.optimizer, progress
        )
        self.attempt.event("checkpoint", step=progress.step, where=place.name)

    def _finish_epoch(self, progress: Progress) -> None:
        """Validate, store the weights, and offer the epoch, unless it was taken before."""
        output = f"epoch-{progress.epoch:03d}"
        if output not in self.attempt.owed():
            return
        self.module.eval()
        scored = score(self.attempt, self.arm, self.setup, self.validation)
        self.module.train()
        weights = self.attempt.path / "weights" / f"{output}.safetensors"
        save_weights(weights, self.module.state_dict())
        self.attempt.take(
            output,
            [weights],
            {"train_loss": progress.loss_sum / self.steps_per_epoch, **_validation(scored)},
            {
                "samples": len(self.train.rows),
                "steps": progress.step,
                "parameters": sum(parameter.numel() for parameter in self.parameters),
            },
        )


def epoch_order(rows: int, seed: int, epoch: int) -> list[int]:
    """The order of the rows in one epoch: another in each, and the same after a restart."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order: list[int] = torch.randperm(rows, generator=generator).tolist()
    return order
