"""What stands around an arm in a job: its settings, the frozen reader, the task's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lwspec.errors import DataError, ModelError
from lwspec.kernels.arm import Arm, Setup
from lwspec.kernels.arms import all_arms, read_arm
from lwspec.kernels.attempt import Attempt
from lwspec.kernels.data.rows import Row, read_rows
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Prompt
from lwspec.kernels.models.load import load_reader
from lwspec.kernels.models.reader import Reader


@dataclass(frozen=True)
class AnswerFormat:
    """How a task's answers are said after its prompt, or after its query."""

    reader: Reader
    before: str
    template: str
    labels: Sequence[str]
    """Empty where the answer is free text."""
    most_tokens: int | None
    """What is learnt and written of free text; labels are always said in full."""

    def text(self, target: str) -> str:
        """A label or target as it is said."""
        return self.template.replace("{label}", target).replace("{target}", target)

    def ids(self, target: str) -> list[int]:
        """A label or target as the reader's tokens."""
        return self.reader.answer_ids(self.before, self.text(target))[: self.most_tokens]

    def label_ids(self) -> list[list[int]]:
        """Every label as tokens."""
        return [self.ids(label) for label in self.labels]


def open_setup(
    attempt: Attempt, sender_width: int | None, device: torch.device
) -> tuple[Arm, Setup]:
    """The job's arm, and the setup that its functions get."""
    settings = attempt.job.settings
    arm = _arm_of(attempt)
    loaded = {
        role: load_reader(
            attempt,
            role,
            settings["models"][role],
            device,
            shared=role not in arm.declaration.own,
        )
        for role in arm.declaration.models
    }
    sender = loaded.get("sender")
    reader = loaded.get("receiver", sender)
    if sender is not None:
        sender_width = sender.width
    parsed = arm.declaration.settings.model_validate(settings["arm_settings"])
    examples = _examples(attempt, settings["task"], arm.declaration.examples(parsed))
    setup = Setup(parsed, settings["task"], reader, sender_width, examples, sender=sender)
    return arm, setup


def for_task(attempt: Attempt, arm: Arm, setup: Setup) -> Setup:
    """The setup for another task of the same fit: `attempt` is at that part of it."""
    task = attempt.job.settings["task"]
    examples = _examples(attempt, task, arm.declaration.examples(setup.settings))
    return replace(setup, task=task, examples=examples)


def _arm_of(attempt: Attempt) -> Arm:
    """The job's arm. Raises ModelError where its own file is not the one that was planned."""
    file = attempt.job.places.get("arm")
    if file is None:
        return all_arms()[attempt.job.settings["arm"]]
    arm = read_arm(Path(file))
    if arm.declaration.sha256 != attempt.job.settings["arm_sha256"]:
        raise ModelError(
            "the arm's file has changed since it was planned", where=file, remedy="submit again"
        )
    return arm


def _examples(attempt: Attempt, task: Mapping[str, Any], each: int) -> list[tuple[Seen, str]]:
    """The first training rows of each label, in turn, with their answers.

    Raises DataError where a label has too few.
    """
    if not each:
        return []
    by_label: list[list[Seen]] = [[] for _ in task["labels"]]
    for row in read_rows(attempt.input("data").file("result", "rows/train.parquet")):
        by_label[row.label].append(Seen(row.context, row.fields))
    shown = []
    for place in range(each):
        for label, rows in zip(task["labels"], by_label, strict=True):
            if place >= len(rows):
                raise DataError(f"{each} examples of {label!r} are asked for; train has {place}")
            shown.append((rows[place], task["answer"].replace("{label}", label)))
    return shown


def answers_of(setup: Setup) -> AnswerFormat:
    """The answers of the job's task, for its reader.

    They follow the query where it is among what the arm reads: other prompts are then what a sender
    reads, or what a fit does. The setting `text` says that the receiver reads its own prompt.
    """
    task = setup.task
    assert setup.reader is not None
    order = ["query", "receiver_prompt", "sender_prompt"]
    if getattr(setup.settings, "text", False):
        order.remove("query")
    before = next(task[key] for key in order if key in task).rpartition("{context}")[2]
    most = task.get("max_new_tokens")
    return AnswerFormat(setup.reader, before, task["answer"], task.get("labels", ()), most)


def no_messages(rows: Sequence[Any]) -> Any:
    """What an arm without a message presents from: None for each row."""
    return [None] * len(rows)


def present_rows(
    arm: Arm, setup: Setup, messages: Sequence[Any], rows: Sequence[Row]
) -> list[Prompt]:
    """Each row's prompt; the context is withheld from arms that declared they work without it."""
    sees = arm.declaration.regime != "private"
    seen = [Seen(row.context if sees else None, row.fields) for row in rows]
    return arm.prompts(setup, messages, seen)
