"""What all prompts of a batch begin with: found, taken off, and kept once it was read.

A task's query or its solved examples are the same in every row, so their keys and values need
computing once for a batch, and once for all batches that begin alike. Shapes: B rows, P tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor
from transformers import DynamicCache

from lwspec.kernels.message import Cached, Graft, Prompt


def common_prefix(prompts: Sequence[Prompt]) -> tuple[int, ...]:
    """The token ids that all prompts begin with; none where they make less than half of any.

    The last token of a prompt is never among them, since something must be left to run on.
    """
    if len(prompts) < 2:
        return ()
    heads = [_head(prompt) for prompt in prompts]
    first, last = min(heads), max(heads)  # all others lie between them
    most = min(sum(map(len, prompt)) for prompt in prompts) - 1
    length = 0
    while length < min(len(first), len(last), most) and first[length] == last[length]:
        length += 1
    return tuple(first[:length]) if 2 * length >= max(map(len, heads)) else ()


def _head(prompt: Prompt) -> list[int]:
    """The token ids before the first soft token; none of a prompt that is given states."""
    ids: list[int] = []
    if any(isinstance(part, Cached | Graft) for part in prompt):
        return ids
    for part in prompt:
        if isinstance(part, Tensor):
            break
        ids += cast("Sequence[int]", part)
    return ids


def without(prompt: Prompt, count: int) -> Prompt:
    """A prompt without its first tokens."""
    parts: list[Any] = []
    for part in cast("Sequence[Any]", prompt):
        if count < len(part):
            parts.append(part[count:] if count else part)
        count = max(0, count - len(part))
    return parts


class Prefix:
    """A prefix that was read: keys and values of each layer, each [1, heads, P, head_width]."""

    def __init__(self, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.layers = layers

    def cache(self, rows: int) -> DynamicCache:
        """A KV cache of so many rows that holds the prefix; empty where it is."""
        return DynamicCache(
            (keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1))
            for keys, values in self.layers
        )
