"""What all prompts of a batch begin with: found, taken off, and read once.

A task's query or its solved examples are the same in every row, so their keys and values need
computing once for a batch, and once for all batches that begin alike. Shapes: B rows, P tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import DynamicCache

from lwspec.errors import ModelError
from lwspec.kernels.message import Prompt

if TYPE_CHECKING:
    from lwspec.kernels.reader import Reader


ATTENTION = {"full_attention", "sliding_attention"}


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
    """The token ids before the first soft token."""
    ids: list[int] = []
    for part in prompt:
        if isinstance(part, Tensor):
            break
        ids += part
    return ids


def without(prompt: Prompt, count: int) -> Prompt:
    """A prompt without its first tokens."""
    parts = []
    for part in prompt:
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


class Prefixes:
    """The prefixes of a reader that were read last."""

    KEPT = 8

    def __init__(self) -> None:
        self._read: dict[tuple[int, ...], Prefix] = {}

    def get(self, reader: Reader, ids: tuple[int, ...]) -> Prefix:
        """A prefix, read now where it was not kept.

        Raises ModelError for a model with layers that keep something else than keys and values.
        """
        kinds = set(getattr(reader.model.config.get_text_config(), "layer_types", None) or ())
        if not kinds <= ATTENTION:
            raise ModelError(
                f"{type(reader.model).__name__} has layers of the kind "
                f"{min(kinds - ATTENTION)!r}, which cannot be taken back to an earlier token",
                remedy="choose a receiver whose layers are all attention",
            )
        if not ids:
            return Prefix(())
        if ids not in self._read:
            while len(self._read) >= self.KEPT:
                self._read.pop(next(iter(self._read)))
            self._read[ids] = _read(reader, ids)
        return self._read[ids]


@torch.no_grad()
def _read(reader: Reader, ids: tuple[int, ...]) -> Prefix:
    cache = DynamicCache()
    padded = reader.pad([[ids]])
    reader.model(
        inputs_embeds=padded.embeds,
        attention_mask=reader.mask(padded),
        position_ids=padded.positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return Prefix([(each.keys, each.values) for each in cache.layers])  # type: ignore[union-attr,misc]
