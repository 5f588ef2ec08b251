"""What a model is run on: a prompt around a row's text, or soft tokens around its query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from lwspec.kernels.data.seen import Seen, fill

if TYPE_CHECKING:
    from torch import Tensor

    from lwspec.kernels.arm import Batch, Setup
    from lwspec.kernels.message import Prompt
    from lwspec.kernels.models.reader import Reader

Layout: TypeAlias = Literal["query_message", "message_query"]
"""[query][soft tokens], LatentWire's primer-soft-answer, or [soft tokens][query]."""

Bos: TypeAlias = Literal["first", "none", "answer"]
"""Where the beginning-of-text token stands: before all, nowhere, or just before the answer."""


def sender_ids(setup: Setup, batch: Batch) -> list[list[int]]:
    """The sender's prompt around each row's context as its tokens, for arms that run it."""
    assert setup.sender is not None
    return prompt_ids(setup.sender, "sender_prompt", setup, batch)


def prompt_ids(reader: Reader, field: str, setup: Setup, batch: Batch) -> list[list[int]]:
    """The tokens that a model has for each row's prompt `field`, cut to the last of them."""
    fields, tasks = batch.fields or [{}] * len(batch.contexts), tasks_of(setup, batch)
    return [
        reader.encode(fill(task[field], text, row), task["max_prompt_tokens"])
        for task, text, row in zip(tasks, batch.contexts, fields, strict=True)
    ]


def tasks_of(setup: Setup, batch: Batch) -> Sequence[Mapping[str, Any]]:
    """The task of each row: in a fit over several, `setup` has only what these have in common."""
    return batch.tasks or [setup.task] * len(batch.contexts)


def query_ids(setup: Setup, seen: Seen) -> list[int]:
    """The query's tokens, without that of the beginning."""
    assert setup.reader is not None
    return setup.reader.encode(seen.fill(setup.task["query"]))[len(setup.reader.bos) :]


def text_prompt(setup: Setup, field: str, seen: Seen, text: str | None = None) -> Prompt:
    """The task's prompt `field` around the context or another text, cut to its last tokens."""
    assert setup.reader is not None
    prompt = seen.fill(setup.task[field], text)
    return [setup.reader.encode(prompt, setup.task["max_prompt_tokens"])]


def present_text(setup: Setup, message: str, seen: Seen) -> Prompt:
    """The receiver's prompt around a message of text: what every arm with one shares."""
    return text_prompt(setup, "receiver_prompt", seen, message)


def soft_prompt(
    setup: Setup, message: Tensor, seen: Seen, layout: Layout = "query_message", bos: Bos = "first"
) -> Prompt:
    """The query and the soft tokens [soft_tokens, receiver_width] in their layout."""
    assert setup.reader is not None
    start, query = setup.reader.bos, query_ids(setup, seen)
    parts: list[Any] = [query, message] if layout == "query_message" else [message, query]
    parts = {"first": [start, *parts], "none": parts, "answer": [*parts, start]}[bos]
    return [part for part in parts if len(part)]


def present_soft(setup: Setup, message: Tensor, seen: Seen) -> Prompt:
    """[BOS][query][soft tokens]: what every arm with a soft message shares."""
    return soft_prompt(setup, message, seen)
