"""Keys and values that a model keeps of some prompts: what is sent in place of its states.

Shapes: B rows, T tokens, D layers, H key heads, W head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from transformers import DynamicCache

from lwspec.errors import ModelError
from lwspec.kernels.message import Cached, Prompt
from lwspec.kernels.models.injected import injecting
from lwspec.kernels.models.reader import Reader


def keys_values(reader: Reader, prompts: Sequence[Prompt], ends: int | None = None) -> list[Tensor]:
    """What each layer keeps of the tokens that are read of each prompt: [D, 2, H, T, W].

    Positions count from each prompt's beginning, or so that `ends` is the one after its last token.
    Gradients reach what the prompts hold of tensors; call it without where none are wanted.
    Raises ModelError for models whose layers keep something else, and with `ends` for those without
    rotary positions.
    """
    refuse_other_states(reader)
    if ends is not None:
        refuse_other_positions(reader)
    padded, cache = reader.pad(prompts), DynamicCache()
    if ends is not None:
        shifted = padded.positions + ends - padded.next_positions
        padded = replace(padded, positions=shifted)
    with injecting(reader.model, padded.injected):
        reader.model(
            inputs_embeds=padded.embeds,
            attention_mask=reader.mask(padded),
            position_ids=padded.positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    return last_kept(reader, cache, padded.mask.sum(1).tolist())


def refuse_other_states(reader: Reader) -> None:
    """Raise ModelError for a model whose layers keep something beside keys and values."""
    if not reader.by_position:
        raise ModelError(
            f"the layers of {type(reader.model).__name__} keep more than keys and values",
            remedy="choose another model, or another arm",
        )


def refuse_other_positions(reader: Reader) -> None:
    """Raise ModelError for a model whose keys and values tell more of positions than distances."""
    if not reader.rotary:
        raise ModelError(
            f"{type(reader.model).__name__} has no rotary positions, so its keys and values fit "
            "only where they were read",
            remedy="choose another model, or another arm",
        )


def last_kept(reader: Reader, cache: DynamicCache, lengths: Sequence[int]) -> list[Tensor]:
    """Each row's last tokens in a cache, so many, where the reader is: [D, 2, H, T, W]."""
    layers = [torch.stack([each.keys, each.values], 1) for each in cache.layers]  # type: ignore[union-attr,list-item]
    whole_BDTW = torch.stack([layer.to(reader.device) for layer in layers], 1)
    return [row[..., -length:, :] for row, length in zip(whole_BDTW, lengths, strict=True)]


def as_vectors(keys_values: Tensor) -> Tensor:
    """Keys and values [..., H, T, W] with the heads of a token side by side: [..., T, H * W]."""
    return keys_values.transpose(-3, -2).flatten(-2)


def from_vectors(reader: Reader, vectors: Tensor) -> Tensor:
    """Keys and values [..., H, T, W] for a model, from [..., T, H * W].

    Raises ModelError for models without rotary positions.
    """
    refuse_other_positions(reader)
    config = reader.model.config.get_text_config()
    heads: int = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    apart = vectors.reshape(*vectors.shape[:-1], heads, vectors.shape[-1] // heads)
    return apart.transpose(-3, -2)


def as_cached(keys_values: Tensor, layers: Sequence[int] | None = None) -> Cached:
    """Keys and values [layers, 2, H, T, W] as a prompt's first segment; all layers' by default."""
    numbers = range(len(keys_values)) if layers is None else layers
    pairs = {n: (one[0], one[1]) for n, one in zip(numbers, keys_values, strict=True)}
    return Cached(pairs, keys_values.shape[-2])
