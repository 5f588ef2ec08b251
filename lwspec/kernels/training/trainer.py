"""The trainer: one loop for every arm that is trained over epochs.

After each epoch it stores the weights, validates and offers the epoch as an output; from then on
nothing can take it back. Checkpoints hold everything that the next step depends on, so a fit that
was killed at any point ends with the same weights as one that was not; they are written after the
last epoch, and as often as the work may stand still for them, a twentieth of the time. The
receiver's pass is asked for, so that fits side by side can share it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lwspec.errors import CheckpointError
from lwspec.kernels.arm import Arm, Setup
from lwspec.kernels.attempt import Attempt, Stopped
from lwspec.kernels.measuring.score import score
from lwspec.kernels.message import Prompt
from lwspec.kernels.training.behind import Behind, copied
from lwspec.kernels.training.checkpoint import (
    Progress,
    complete_checkpoints,
    load_checkpoint,
    optimizer_tensors,
    save_checkpoint,
    save_weights,
)
from lwspec.kernels.training.learner import Learner
from lwspec.kernels.training.loss import Counts, partners
from lwspec.kernels.training.receiver_pass import Ask, Steps, Told
from lwspec.kernels.training.tasks import TrainingTask, by_task, joined, validated

LOG_EVERY_STEPS = 10


@dataclass
class Trainer:
    """One fit: its data order, optimiser, checkpoints and metrics."""

    attempt: Attempt
    arm: Arm
    setup: Setup
    """Of all tasks: it holds what they have in common."""
    module: nn.Module
    tasks: Sequence[TrainingTask]

    def __post_init__(self) -> None:
        self.settings: dict[str, Any] = dict(self.attempt.job.settings["train"])
        self.seed: int = self.attempt.job.settings["seed"]
        self.learner = Learner(self.arm, self.setup, self.settings)
        self.rows_by_task = [len(task.train.rows) for task in self.tasks]
        self.rows = sum(self.rows_by_task)
        self.steps_per_epoch = math.ceil(self.rows / self.settings["batch_size"])
        self.epochs = len(self.attempt.job.outputs)
        self.rows_at_once: int = self.settings["batch_size"]
        self.separation = self.arm.declaration.separation(self.setup.settings)
        # Where the losses are, so that nobody waits for them.
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self.learner.device)

    def run(self) -> Steps:
        """Go on from the furthest readable checkpoint to the last epoch that is owed."""
        progress = self._resume()
        with Behind() as behind:
            while progress.epoch <= self.epochs:
                if progress.step_in_epoch < self.steps_per_epoch:
                    yield from self._epoch(progress, behind)
                self._finish_epoch(progress, behind)
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

    def _epoch(self, progress: Progress, behind: Behind) -> Steps:
        """Train to the end of an epoch."""
        order = epoch_order(self.rows, self.seed, progress.epoch)
        size, total = self.settings["batch_size"], self.epochs * self.steps_per_epoch
        self._loss_sum.fill_(progress.loss_sum)
        for step in range(progress.step_in_epoch, self.steps_per_epoch):
            reason = self.attempt.why_stop()
            if reason is not None or self.attempt.checkpoint_due():
                progress.loss_sum = float(self._loss_sum)
                behind.wait()
                self._checkpoint(progress, behind)
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
        progress.loss_sum = float(self._loss_sum)

    def step(self, indices: Sequence[int], step: int) -> Generator[Ask, Told, Tensor]:
        """One update from a batch; returns its answers' cross-entropy.

        The indices count through the rows of all tasks. The receiver reads as many rows at once as
        memory allows.
        """
        chosen = [(self.tasks[number], own) for number, own in by_task(self.rows_by_task, indices)]
        messages = self.learner.messages(joined([task.batch(own) for task, own in chosen]))
        prompts, taught, mismatched = list[Prompt](), list[Prompt](), list[Prompt]()
        said: list[Sequence[int]] = []
        for task, own in chosen:
            rows = [task.train.rows[index] for index in own]
            mine = messages[len(prompts) : len(prompts) + len(rows)]
            prompts += self.learner.prompts(task.setup, mine, rows)
            said += task.answers(rows, self.settings)
            taught += task.taught(rows)
            if self.separation:  # each row also with the message of one with another target
                others = [mine[other] for other in partners([row.target for row in rows])]
                mismatched += self.learner.prompts(task.setup, others, rows)
        assert self.setup.reader is not None
        told = yield Ask(
            self.setup.reader,
            prompts,
            said,
            Counts(sum(map(len, said)), len(said)),
            self.settings,
            taught or None,
            self.learner.leaves(),
            self.rows_at_once,
            mismatched or None,
            self.separation,
        )
        if told.rows_at_once < self.rows_at_once:
            self.rows_at_once = told.rows_at_once
            self.attempt.event("fewer_rows_at_once", rows=told.rows_at_once)
        self.learner.update(self.settings["learning_rate"] * self._rate(step))
        return told.loss

    def _rate(self, step: int) -> float:
        """The learning rate's factor: linear warm-up, then constant or a cosine to zero."""
        warmup: int = self.settings["warmup_steps"]
        if step < warmup:
            return (step + 1) / warmup
        if self.settings["schedule"] == "constant":
            return 1.0
        whole = self.settings["epochs"] * self.steps_per_epoch - warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, whole)))

    def _checkpoint(self, progress: Progress, behind: Behind, weights: Path | None = None) -> None:
        """Copy what the next step depends on, to be stored behind the training.

        `weights` is a file that will hold the module's by then.
        """
        began = time.monotonic()
        progress.rows_at_once = self.rows_at_once
        module = weights or copied(self.module.state_dict())
        moments = copied(optimizer_tensors(self.learner.optimizer))
        self.attempt.checkpoint_written(time.monotonic() - began + behind.waited_s)
        behind.waited_s = 0.0
        behind.then(partial(self._store_checkpoint, module, moments, replace(progress)))

    def _store_checkpoint(
        self, module: Path | Mapping[str, Tensor], moments: Mapping[str, Tensor], progress: Progress
    ) -> None:
        place = save_checkpoint(self.attempt.path / "checkpoints", module, moments, progress)
        self.attempt.event("checkpoint", step=progress.step, where=place.name)

    def _finish_epoch(self, progress: Progress, behind: Behind) -> None:
        """Store weights and checkpoint, validate, and offer the epoch, unless it was taken."""
        output = f"epoch-{progress.epoch:03d}"
        weights = self.attempt.path / "weights" / f"{output}.safetensors"
        behind.wait()  # so that one copy of a fit's is in memory
        owed = output in self.attempt.owed()
        if owed:
            behind.then(partial(save_weights, weights, copied(self.module.state_dict())))
        due = progress.epoch == self.epochs or self.attempt.checkpoint_due(epoch_ends=True)
        if due:
            self._checkpoint(progress, behind, weights if owed else None)
        if not owed:
            return
        try:
            metrics = self._validate()
        except Stopped:
            if not due:
                self._checkpoint(progress, behind, weights)
            raise
        facts = {
            "samples": self.rows,
            "steps": progress.step,
            "rows_at_once": self.rows_at_once,
            "parameters": sum(parameter.numel() for parameter in self.learner.parameters),
        }
        metrics = {"train_loss": progress.loss_sum / self.steps_per_epoch, **metrics}
        behind.then(partial(self.attempt.take, output, [weights], metrics, facts))

    def _validate(self) -> Mapping[str, float | None]:
        self.module.eval()
        scores = {
            task.name: score(self.attempt, self.arm, task.setup, task.validation)
            for task in self.tasks
        }
        self.module.train()
        return validated(scores)


def epoch_order(rows: int, seed: int, epoch: int) -> list[int]:
    """The order of the rows in one epoch: another in each, and the same after a restart."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order: list[int] = torch.randperm(rows, generator=generator).tolist()
    return order
