"""What of a spec goes into a job's settings, and so into its identity: pure helpers of expand."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lwspec.engine.arm import ArmDeclaration, Role
from lwspec.engine.fields import Frozen
from lwspec.engine.job import BLOCK_ROWS
from lwspec.engine.spec.controls import CONTROL, of_table, sender_prompt
from lwspec.engine.spec.spec import AtMost, Experiment, Latency, Train
from lwspec.engine.spec.task import Classification, Task

Point = Mapping[str, Any]
"""A value for each swept key, and under the key "control" the name of one."""

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


def measured_points(experiment: Experiment, arm: ArmDeclaration) -> Iterator[dict[str, Any]]:
    """Every point of the sweep as it is, then under each control that the experiment names."""
    controls = () if arm.regime == "reference" else experiment.controls
    for point in points(experiment):
        yield point
        yield from ({**point, CONTROL: control} for control in controls)


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
    table = {**experiment.settings.get(arm.name, {}), **swept}
    return of_table(point.get(CONTROL), arm, table)


def at_point(experiment: Experiment, arm: ArmDeclaration, point: Mapping[str, Any]) -> Resolved:
    """The experiment's settings with a sweep point's values in their places."""
    tables: dict[str, dict[str, Any]] = {
        "train": experiment.train.model_dump(exclude_unset=True),
        "latency": experiment.latency.model_dump() if experiment.latency else {},
    }
    for key, value in point.items():
        owner, _, field = key.partition(".")
        if owner in tables:
            tables[owner][field] = value
    return Resolved(
        arm.settings.model_validate(table_at(experiment, arm, point)),
        Train.model_validate(tables["train"]),
        Latency.model_validate(tables["latency"]) if experiment.latency else None,
    )


def trained_on(experiment: Experiment, arm: ArmDeclaration, task: str) -> tuple[str, ...]:
    """The tasks whose rows an arm learns from before it is measured on one, as they are written."""
    if experiment.train_on is None or not arm.trained:
        return (task,)
    if experiment.train_on == "others":
        return tuple(other for other in experiment.tasks if other != task)
    return experiment.train_on


@dataclass(frozen=True)
class Block:
    """One arm on one task at one sweep point: everything about its cells but the seed."""

    experiment: Experiment
    arm: ArmDeclaration
    task: str
    point: Point
    resolved: Resolved
    trained_on: tuple[str, ...]
    """The tasks whose rows a fit reads; the task itself where nothing is trained."""

    @property
    def control(self) -> str | None:
        """The name of the control; None for the arm as it is."""
        name: str | None = self.point.get(CONTROL)
        return name

    def model(self, role: Role) -> str:
        """The spec's name of a role's model: under one control the receiver is its own sender."""
        own = role == "sender" and self.control == "identical"
        name: str = getattr(self.experiment, "receiver" if own else role)
        return name

    def label(self, seed: int | None, tasks: Sequence[str] = ()) -> str:
        """For people: arm, task (or those that a fit is over), sweep point and seed."""
        swept = "".join(f" {key}={value}" for key, value in self.point.items())
        end = "" if seed is None else f" s{seed}"
        return f"{self.arm.name} {'+'.join(tasks or [self.task])}{swept}{end}"

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


def read_of(task: Task, block: Block) -> dict[str, Any]:
    """A task as an arm's jobs know it: its answers, and the fields that the arm reads."""
    read = {name: getattr(task, name) for name in block.arm.reads}
    if "sender_prompt" in read:
        read["sender_prompt"] = sender_prompt(block.control, task)
    return {**answers(task), **read}


def learnt(task: Task, block: Block) -> dict[str, Any]:
    """What a fit over a task's rows must know of the task."""
    known = {"task": read_of(task, block)}
    if block.arm.epochs and block.resolved.train.distillation:
        known["teacher"] = {name: getattr(task, name) for name in TEACHER_READS}
    return known


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
    """Whether the bits that its message delivers are measured: to a frozen receiver, in private.

    A message of fixed bytes is a code for an answer, which has no place among the receiver's
    tokens: their difference would be 0 whatever it says.
    """
    frozen = "receiver" in arm.models and "receiver" not in arm.own
    read = arm.regime == "private" and arm.fixed_bytes is None
    return read and frozen and bool({"query", "receiver_prompt"} & {*arm.reads})


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
