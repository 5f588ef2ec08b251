"""What of a spec goes into a job's settings, and so into its identity: pure helpers of expand."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lwspec.engine.arm import ArmDeclaration
from lwspec.engine.fields import Frozen
from lwspec.engine.job import BLOCK_ROWS
from lwspec.engine.spec import AtMost, Experiment, Latency, Train
from lwspec.engine.task import Classification, Task

Point = Mapping[str, Any]
"""A value for each swept key."""

TEACHER_READS = ("receiver_prompt", "max_prompt_tokens")
"""The task's fields that distillation needs: how the receiver reads the text itself."""


READS: Mapping[str, tuple[str, ...]] = {
    "data": ("result",),
    "sender": ("result",),
    "receiver": ("result",),
    "states": ("test",),
    "pooled": ("test",),
    "text": ("test",),
}
"""The outputs that a measurement reads of each input."""


def points(experiment: Experiment) -> Iterator[dict[str, Any]]:
    """Every combination of the swept values, in the order they are written."""
    keys = list(experiment.sweep)
    for values in itertools.product(*experiment.sweep.values()):
        yield dict(zip(keys, values, strict=True))


@dataclass(frozen=True)
class Resolved:
    """An arm's settings, its training and its timing at one sweep point, defaults filled in."""

    settings: Frozen
    train: Train
    latency: Latency | None


def table_at(
    experiment: Experiment, arm: ArmDeclaration, point: Mapping[str, Any]
) -> dict[str, Any]:
    """The arm's own table with a sweep point's values in their places."""
    owned = {key.partition("."): value for key, value in point.items()}
    swept = {field: value for (owner, _, field), value in owned.items() if owner == arm.name}
    return {**experiment.settings.get(arm.name, {}), **swept}


def at_point(experiment: Experiment, arm: ArmDeclaration, point: Mapping[str, Any]) -> Resolved:
    """The experiment's settings with a sweep point's values in their places."""
    tables: dict[str, dict[str, Any]] = {
        "train": experiment.train.model_dump(exclude_unset=True),
        "latency": experiment.latency.model_dump() if experiment.latency else {},
    }
    for key, value in point.items():
        owner, field = key.split(".", 1)
        if owner in tables:
            tables[owner][field] = value
    return Resolved(
        arm.settings.model_validate(table_at(experiment, arm, point)),
        Train.model_validate(tables["train"]),
        Latency.model_validate(tables["latency"]) if experiment.latency else None,
    )


@dataclass(frozen=True)
class Block:
    """One arm on one task at one sweep point: everything about its cells but the seed."""

    experiment: Experiment
    arm: ArmDeclaration
    task: str
    point: Point
    resolved: Resolved

    def label(self, seed: int | None) -> str:
        """For people: arm, task, sweep point and seed."""
        swept = "".join(f" {key}={value}" for key, value in self.point.items())
        end = "" if seed is None else f" s{seed}"
        return f"{self.arm.name} {self.task}{swept}{end}"

    @property
    def epochs(self) -> tuple[str, ...]:
        """The outputs of a fit; what is solved in one step has one."""
        epochs = self.resolved.train.epochs if self.arm.epochs else 1
        return tuple(f"epoch-{epoch:03d}" for epoch in range(1, epochs + 1))

    def tested(self) -> tuple[dict[str, int], tuple[str, ...]]:
        """Which checkpoint is measured, as a setting, and the outputs of the fit that it takes."""
        which = self.resolved.train.checkpoint if self.arm.epochs else "last"
        taken = self.epochs if which == "best" else self.epochs[-1:]
        return {which: len(self.epochs)}, taken


def answers(task: Task) -> dict[str, Any]:
    """What a job must know of a task's answers, whatever the arm."""
    if isinstance(task, Classification):
        return {"kind": task.kind, "labels": task.labels}
    pattern = {} if task.answer_pattern is None else {"answer_pattern": task.answer_pattern}
    return {"kind": task.kind, "max_new_tokens": task.max_new_tokens, **pattern}


def wanted(task: Task) -> dict[str, Any]:
    """Where a row holds what should be answered."""
    if isinstance(task, Classification):
        return {"kind": task.kind, "label": task.label, "labels": task.labels}
    return {"kind": task.kind, "target": task.target, "accepted": task.accepted}


def scoring(arm: ArmDeclaration, experiment: Experiment) -> dict[str, Any]:
    """The evaluation's settings that can change this arm's numbers."""
    settings = experiment.evaluate.model_dump(exclude={"max_bytes"})
    if not arm.soft:
        del settings["precision"]
    if not arm.models:
        del settings["batch_size"]
    if settings["bits"] is None or not tells_bits(arm):
        del settings["bits"]
    return settings


def tells_bits(arm: ArmDeclaration) -> bool:
    """Whether the bits that its message delivers are measured: to a frozen receiver, in private."""
    frozen = "receiver" in arm.models and "receiver" not in arm.own
    return arm.regime == "private" and frozen and bool({"query", "receiver_prompt"} & {*arm.reads})


def schedule(train: Train) -> dict[str, Any]:
    """The training settings that can change an epoch's numbers.

    With a constant rate the number of epochs is not among them, so 6 epochs extend to 8.
    """
    settings = train.model_dump(exclude={"samples", "checkpoint", "epochs"})
    if not train.distillation:
        del settings["distillation"], settings["distillation_temperature"]
    if train.schedule == "cosine":
        settings["epochs"] = train.epochs
    return settings


def samples(train: Train) -> dict[str, int | None]:
    """How many training rows: exactly so many or all, or at most so many."""
    if isinstance(train.samples, AtMost):
        return {"max": train.samples.max}
    return {"exactly": train.samples}


def blocks(train: Train, available: int | None) -> tuple[str, ...]:
    """Names of the blocks of training rows that hold the samples."""
    asked = train.samples.max if isinstance(train.samples, AtMost) else train.samples
    known = [rows for rows in (asked, available) if rows is not None]
    if not known:
        return ("train-all",)
    return tuple(f"train-{block:04d}" for block in range(-(-min(known) // BLOCK_ROWS)))
