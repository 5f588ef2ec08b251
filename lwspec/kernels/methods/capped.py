"""The cap in bytes that every arm whose message is text may be given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from lwspec.engine.fields import Frozen, Positive


class Capped(Frozen):
    """Settings of an arm that sends text."""

    max_bytes: Annotated[Positive | None, Field(exclude_if=lambda cap: cap is None)] = None
    """The text is cut to so many bytes of UTF-8 once it is made; not at all where it is left out,
    which is then no part of a job's identity."""

    def cut(self, texts: Sequence[str]) -> list[str]:
        """The texts' beginnings, each cut between two characters."""
        return [first_bytes(text, self.max_bytes) for text in texts]


def first_bytes(text: str, most: int | None) -> str:
    """As many of a text's first characters as `most` bytes of UTF-8 hold; all where it is None."""
    return text.encode()[:most].decode(errors="ignore")
