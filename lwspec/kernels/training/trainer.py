"""The trainer: one loop for every arm that is trained over epochs.

After each epoch it validates, stores the weights and offers the epoch as an output; from then on
nothing can take it back. Checkpoints hold everything that the next step depends on, so a fit that
was killed at any point ends with the same weights as one that was not. The receiver's pass is
asked for, so that fits side by side can share it.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lwspec.errors import CheckpointError
from lwspec.kernels.arm import Arm, Setup
from lwspec.kernels.attempt import Attempt
from lwspec.kernels.data.items import Items
from lwspec.kernels.data.rows import Row
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.measuring.score import score, validation_metrics
from lwspec.kernels.message import Prompt
from lwspec.kernels.prompts import text_prompt
from lwspec.kernels.setup import AnswerFormat, present_all
from lwspec.kernels.training.checkpoint import (
    Progress,
    complete_checkpoints,
    load_checkpoint,
    save_checkpoint,
    save_weights,
)
from lwspec.kernels.training.learner import Learner
from lwspec.kernels.training.loss import Counts, partners, supervised
from lwspec.kernels.training.receiver_pass import Ask, Steps, Told

LOG_EVERY_STEPS = 10


@dataclass
class Trainer:
    """One fit: its data order, optimiser, checkpoints and metrics."""

    attempt: Attempt
    arm: Arm
    setup: Setup
    module: nn.Module
    answers: AnswerFormat
    train: Items
    validation: Items

    def __post_init__(self) -> None:
        self.settings: dict[str, Any] = dict(self.attempt.job.settings["train"])
        self.seed: int = self.attempt.job.settings["seed"]
        self.learner = Learner(self.arm, self.setup, self.settings)
        self.steps_per_epoch = math.ceil(len(self.train.rows) / self.settings["batch_size"])
        self.epochs = len(self.attempt.job.outputs)
        self.rows_at_once: int = self.settings["batch_size"]
        self.separation = self.arm.declaration.separation(self.setup.settings)
        # Where the losses are, so that nobody waits for them.
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self.learner.device)

    def run(self) -> Steps:
        """Go on from the furthest readable checkpoint to the last epoch that is owed."""
        progress = self._resume()
        while progress.epoch <= self.epochs:
            if progress.step_in_epoch < self.steps_per_epoch:
                yield from self._epoch(progress)
            self._finish_epoch(progress)
            progress = Progress(progress.epoch + 1, step=progress.step)

    def _resume(self) -> Progress:
        for place in complete_checkpoints(self.attempt.job_folder):
            try:
                progress = load_checkpoint(place, self.module, self.learner.optimizer)
            except CheckpointError as error:
                self.attempt.event("checkpoint_unreadable", where=str(place), what=str(error))
                continue
            self.rows_at_once = progress.rows_at_once or self.rows_at_once
            self.attempt.event("resumed", step=progress.step, epoch=progress.epoch)
            return progress
        return Progress()

    def _epoch(self, progress: Progress) -> Steps:
        """Train to the end of an epoch, then store a checkpoint."""
        order = epoch_order(len(self.train.rows), self.seed, progress.epoch)
        size, total = self.settings["batch_size"], self.epochs * self.steps_per_epoch
        self._loss_sum.fill_(progress.loss_sum)
        for step in range(progress.step_in_epoch, self.steps_per_epoch):
            reason = self.attempt.why_stop()
            if reason is not None or self.attempt.checkpoint_due():
                self._checkpoint(progress)
            if reason is not None:
                raise reason
            loss = yield from self.step(order[step * size : (step + 1) * size], progress.step)
            progress.step += 1
            progress.step_in_epoch += 1
            self._loss_sum += loss
            self.attempt.progress(progress.step, total, f"epoch {progress.epoch}")
            if progress.step % LOG_EVERY_STEPS == 0:
                values = {"train_loss": float(loss)}
                self.attempt.event("metric", step=progress.step, values=values)
        self._checkpoint(progress)

    def step(self, indices: Sequence[int], step: int) -> Generator[Ask, Told, Tensor]:
        """One update from a batch; returns its answers' cross-entropy.

        The receiver reads as many rows at once as memory allows.
        """
        rows = [self.train.rows[index] for index in indices]
        messages = self.learner.messages(self.train.batch(indices))
        said = [self._said(row) for row in rows]
        assert self.setup.reader is not None
        told = yield Ask(
            self.setup.reader,
            present_all(self.arm, self.setup, messages, rows),
            said,
            Counts(sum(map(len, said)), len(said)),
            self.settings,
            self._teacher(rows),
            self.learner.leaves(),
            self.rows_at_once,
            self._mismatched(rows, messages),
            self.separation,
        )
        if told.rows_at_once < self.rows_at_once:
            self.rows_at_once = told.rows_at_once
            self.attempt.event("fewer_rows_at_once", rows=told.rows_at_once)
        self.learner.update(self.settings["learning_rate"] * self._rate(step))
        return told.loss

    def _said(self, row: Row) -> Sequence[int]:
        """The tokens of a row's answer that are learnt, its end token after the last."""
        assert self.setup.reader is not None
        return supervised([*self.answers.ids(row.target), self.setup.reader.eos], self.settings)

    def _teacher(self, rows: Sequence[Row]) -> list[Prompt] | None:
        """Prompts with the text itself, where the receiver that reads it is distilled."""
        task = self.attempt.job.settings.get("teacher")
        if task is None:
            return None
        setup = replace(self.setup, task=task)
        return [text_prompt(setup, "receiver_prompt", Seen(r.context, r.fields)) for r in rows]

    def _mismatched(self, rows: Sequence[Row], messages: Sequence[Any]) -> list[Prompt] | None:
        """Prompts with the message of a row with another target, where the arm is taught by it."""
        if not self.separation:
            return None
        others = [messages[other] for other in partners([row.target for row in rows])]
        return present_all(self.arm, self.setup, others, rows)

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
        progress.rows_at_once, progress.loss_sum = self.rows_at_once, float(self._loss_sum)
        place = save_checkpoint(
            self.attempt.path / "checkpoints", self.module, self.learner.optimizer, progress
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
            {"train_loss": progress.loss_sum / self.steps_per_epoch, **validation_metrics(scored)},
            {
                "samples": len(self.train.rows),
                "steps": progress.step,
                "rows_at_once": self.rows_at_once,
                "parameters": sum(parameter.numel() for parameter in self.learner.parameters),
            },
        )


def epoch_order(rows: int, seed: int, epoch: int) -> list[int]:
    """The order of the rows in one epoch: another in each, and the same after a restart."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order: list[int] = torch.randperm(rows, generator=generator).tolist()
    return order
