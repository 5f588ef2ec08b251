"""What a model is run on: templates filled for one row, and soft tokens around a query."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from lwspec.engine.fields import PLACEHOLDER
from lwspec.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from lwspec.kernels.arm import Setup
    from lwspec.kernels.message import Prompt

Layout: TypeAlias = Literal["query_message", "message_query"]
"""[query][soft tokens], LatentWire's primer-soft-answer, or [soft tokens][query]."""

Bos: TypeAlias = Literal["first", "none", "answer"]
"""Where the beginning-of-text token stands: before all, nowhere, or just before the answer."""


@dataclass(frozen=True)
class Seen:
    """What an arm may read of one row: the context is None where its regime withholds it."""

    context: str | None
    fields: Mapping[str, str]
    """The other columns that the task's prompts and query name."""

    def fill(self, template: str, context: str | None = None) -> str:
        """A template with its columns filled in, `context` standing for the row's own if given."""
        return fill(template, self.context if context is None else context, self.fields)


def fill(template: str, context: str | None, fields: Mapping[str, str]) -> str:
    """A template with {context} and {column} filled in; what is filled in is not looked at again.

    Raises DataError for a column that the task's own prompts do not name.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name == "context":
            assert context is not None, "a prompt with {context} for an arm that must not see it"
            return context
        if name not in fields:
            raise DataError(
                f"a prompt names the column {{{name}}}, which no prompt of the task names",
                remedy="name it in the task's sender_prompt, receiver_prompt or query",
            )
        return fields[name]

    return PLACEHOLDER.sub(value, template)


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
    start = setup.reader.bos
    query = setup.reader.encode(seen.fill(setup.task["query"]))[len(start) :]
    parts: list[Any] = [query, message] if layout == "query_message" else [message, query]
    parts = {"first": [start, *parts], "none": parts, "answer": [*parts, start]}[bos]
    return [part for part in parts if len(part)]


def present_soft(setup: Setup, message: Tensor, seen: Seen) -> Prompt:
    """[BOS][query][soft tokens]: what every arm with a soft message shares."""
    return soft_prompt(setup, message, seen)
