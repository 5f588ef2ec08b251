"""Templates that see nothing but their words, run no longer and print no more than is counted.

A text that one doubles within itself can still fill the memory of who renders it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from jinja2 import Environment
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST_STEPS = 1_000_000
"""Lines that one template may run; the appendix of 10,000 runs takes a tenth of it."""
MOST_CHARACTERS = 2**26
"""Of the text that one template may make."""
_GROWING = ("center", "format", "indent", "random", "wordwrap")
"""Filters that make texts of any length, or another text each time."""


class Bounded(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, in which nothing is repeated or raised to a power without end."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, **syntax: Any) -> None:
        super().__init__(**syntax)
        for name in _GROWING:
            del self.filters[name]
        del self.globals["lipsum"]

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic with numbers alone."""
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if operator == "**" or not numbers or max(abs(left), abs(right)) >= 2**31:
            raise SecurityError(f"a template takes no {operator} but of moderate numbers")
        return super().call_binop(context, operator, left, right)


def render(environment: Environment, text: str, words: Mapping[str, Any]) -> str:
    """The template filled. Raises SecurityError where it takes too many steps or characters."""
    parts, size = [], 0
    with _counted_steps():
        for part in environment.from_string(text).generate(words):
            parts.append(part)
            size += len(part)
            if size > MOST_CHARACTERS:
                raise SecurityError(f"it makes more than {MOST_CHARACTERS:,} characters")
    return "".join(parts)


@contextmanager
def _counted_steps() -> Iterator[None]:
    """Count the lines that templates run: no clock, so that every machine agrees."""
    left = MOST_STEPS

    def line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise SecurityError(f"it takes more than {MOST_STEPS:,} steps: does a loop end?")
        return line

    def call(frame: FrameType, event: str, argument: Any) -> Any:
        return line if frame.f_code.co_filename == "<template>" else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        yield
    finally:
        sys.settrace(before)
