"""Pieces of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markdown.extensions.toc import slugify


def code(text: str) -> str:
    """A text as code, also within a table."""
    return f"`{text}`"


def anchor(heading: str) -> str:
    """The name under which a heading can be linked to."""
    return str(slugify(heading, "-"))


def rows(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def block(text: str, language: str = "text") -> str:
    """A text as it stands."""
    return f"```{language}\n{text.rstrip()}\n```"
