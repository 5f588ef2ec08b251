"""Keys and values that a model keeps of some prompts: what is sent in place of its states.

Shapes: B rows, T tokens, D layers, H key heads, W head width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from lwspec.errors import ModelError
from lwspec.kernels.message import Cached, Prompt
from lwspec.kernels.models.injected import injecting
from lwspec.kernels.models.reader import Reader


def keys_values(reader: Reader, prompts: Sequence[Prompt]) -> list[Tensor]:
    """What each layer keeps of the tokens that are read of each prompt: [D, 2, H, T, W].

    Gradients reach what the prompts hold of tensors; call it without where none are wanted.
    Raises ModelError for models whose layers keep something else.
    """
    if not reader.by_position:
        raise ModelError(
            f"the layers of {type(reader.model).__name__} keep more than keys and values",
            remedy="choose another model, or another arm",
        )
    padded, cache = reader.pad(prompts), DynamicCache()
    with injecting(reader.model, padded.injected):
        reader.model(
            inputs_embeds=padded.embeds,
            attention_mask=reader.mask(padded),
            position_ids=padded.positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    layers = [torch.stack([each.keys, each.values], 1) for each in cache.layers]  # type: ignore[union-attr,list-item]
    whole_BDTW = torch.stack(layers, 1)
    lengths = padded.mask.sum(1).tolist()
    return [row[..., -length:, :] for row, length in zip(whole_BDTW, lengths, strict=True)]


def as_cached(keys_values: Tensor, layers: Sequence[int] | None = None) -> Cached:
    """Keys and values [layers, 2, H, T, W] as a prompt's first segment; all layers' by default."""
    numbers = range(len(keys_values)) if layers is None else layers
    pairs = {n: (one[0], one[1]) for n, one in zip(numbers, keys_values, strict=True)}
    return Cached(pairs, keys_values.shape[-2])
