"""What an arm sees of one row, and the task's templates filled from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lwspec.engine.fields import PLACEHOLDER
from lwspec.errors import DataError


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
