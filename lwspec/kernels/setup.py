"""What stands around an arm in a job: its settings, the frozen reader, the task's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lwspec.errors import DataError
from lwspec.kernels.arm import Arm, Setup
from lwspec.kernels.arms import all_arms
from lwspec.kernels.attempt import Attempt
from lwspec.kernels.items import Items
from lwspec.kernels.message import Prompt
from lwspec.kernels.models import load_reader
from lwspec.kernels.reader import Reader
from lwspec.kernels.rows import read_rows


@dataclass(frozen=True)
class Answer:
    """How the labels are said after this task's prompts, as text and as the reader's tokens."""

    texts: Sequence[str]
    ids: Sequence[Sequence[int]]


def open_setup(attempt: Attempt, items: Items, device: torch.device) -> tuple[Arm, Setup]:
    """The job's arm, and the setup that its functions get."""
    settings = attempt.job.settings
    arm = all_arms()[settings["arm"]]
    models: Mapping[str, Any] = settings["models"]
    reader = None
    if models:
        role = "receiver" if "receiver" in models else "sender"
        reader = load_reader(attempt, role, models[role], device)
    width = items.states.width if items.states is not None else None
    parsed = arm.declaration.settings.model_validate(settings["arm_settings"])
    examples = _examples(attempt, settings["task"], arm.declaration.examples(parsed))
    return arm, Setup(parsed, settings["task"], reader, width, examples)


def _examples(attempt: Attempt, task: Mapping[str, Any], each: int) -> list[tuple[str, str]]:
    """The first training rows of each label, in turn, with their answers.

    Raises DataError where a label has too few.
    """
    if not each:
        return []
    by_label: list[list[str]] = [[] for _ in task["labels"]]
    for row in read_rows(attempt.input("data").file("result", "rows/train.parquet")):
        by_label[row.label].append(row.context)
    shown = []
    for place in range(each):
        for label, texts in zip(task["labels"], by_label, strict=True):
            if place >= len(texts):
                raise DataError(f"{each} examples of {label!r} are asked for; train has {place}")
            shown.append((texts[place], task["answer"].replace("{label}", label)))
    return shown


def answers_of(task: Mapping[str, Any], reader: Reader) -> Answer:
    """The task's labels as answers behind its prompt, or behind its query."""
    prompts = [task[key] for key in ("receiver_prompt", "sender_prompt", "query") if key in task]
    before = prompts[0].rpartition("{context}")[2]
    texts = [task["answer"].replace("{label}", label) for label in task["labels"]]
    return Answer(texts, [reader.answer_ids(before, text) for text in texts])


def no_messages(rows: Sequence[Any]) -> Any:
    """What an arm without a message presents from: None for each row."""
    return [None] * len(rows)


def present_all(
    arm: Arm, setup: Setup, messages: Sequence[Any], contexts: Sequence[str]
) -> list[Prompt]:
    """Each row's prompt; the context is withheld from arms that declared they work without it."""
    assert arm.present is not None
    sees = arm.declaration.regime != "private"
    return [
        arm.present(setup, message, context if sees else None)
        for message, context in zip(messages, contexts, strict=True)
    ]
