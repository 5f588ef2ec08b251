"""Keys and values of some layers: which are worth handing over, and how they are (KVComm).

A layer counts by the attention that the receiver's query pays to the context there, and by how near
it lies to the middle (layer_importance.py of the KVComm repository). Shapes: D layers, T context
tokens, H key heads, W head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor
from transformers import DynamicCache

from lwspec.kernels.message import Cached
from lwspec.kernels.models.keys_values import as_vectors, from_vectors, refuse_other_states
from lwspec.kernels.models.reader import Reader


@torch.no_grad()
def attention_to_context(reader: Reader, keys_values: Tensor, query: Sequence[int]) -> Tensor:
    """How much of its attention a query pays to a context, at each layer: [D], in float32.

    `keys_values` [D, 2, H, T, W] are the context's at every layer. Summed over its tokens but the
    first, which takes what no other wants, and averaged over heads and the query's tokens.
    Raises ModelError for models whose layers keep something beside keys and values.
    """
    refuse_other_states(reader)
    tokens = keys_values.shape[-2]
    cache = DynamicCache((keys[None], values[None]) for keys, values in keys_values)
    config = reader.model.config.get_text_config()
    usual = config._attn_implementation
    config._attn_implementation = "eager"  # the only one that tells its weights
    try:
        layers = reader.model(
            inputs_embeds=reader.embed(query)[None],
            position_ids=tokens + reader.tensor(range(len(query)))[None],
            past_key_values=cache,
            use_cache=True,
            output_attentions=True,
            logits_to_keep=1,
        ).attentions
    finally:
        config._attn_implementation = usual
    return torch.stack([layer[..., 1:tokens].float().sum(-1).mean().cpu() for layer in layers])


def layer_scores(attention: Tensor, alpha: float, sigma: float) -> Tensor:
    """alpha times the attention [D] plus 1 - alpha times a Gaussian around the middle layer.

    Both are stretched to between 0 and 1; `sigma` is in layers.
    """
    layers = torch.arange(len(attention), dtype=torch.float32)
    middle = torch.exp(-0.5 * ((layers - (len(attention) - 1) / 2) / sigma) ** 2)
    return alpha * _stretched(attention) + (1 - alpha) * _stretched(middle)


def _stretched(values: Tensor) -> Tensor:
    """From 0 at the least to 1 at the largest; 0 where they are alike."""
    least, largest = values.min(), values.max()
    if largest - least < 1e-9:
        return torch.zeros_like(values)
    return (values - least) / (largest - least)


def layers_of(ratio: float, layers: int) -> int:
    """A share of the layers, rounded up."""
    return ceil(round(ratio * layers, 9))


def best_layers(scores: Tensor, count: int) -> list[int]:
    """The layers with the highest scores, in their order; of equal ones the later."""
    ranked = torch.sort(scores, stable=True).indices.flip(0)
    return sorted(ranked[:count].tolist())


@dataclass(frozen=True)
class Selected:
    """The layers that are handed over whole, and those of which the first token is."""

    whole: list[int]
    first: list[int]

    def pack(self, keys_values: Tensor) -> Tensor:
        """What is sent of all layers' [D, 2, H, T, W]: [2, tokens of each layer in turn, H * W]."""
        layers = as_vectors(keys_values)
        parts = [*layers[self.whole], *layers[self.first, :, :1]]
        return torch.cat(parts, -2) if parts else layers[0, :, :0]

    def unpack(self, reader: Reader, message: Tensor) -> Cached:
        """The receiver's first segment, from what `pack` made; some layer was handed over whole."""
        tokens = (message.shape[-2] - len(self.first)) // len(self.whole)
        lengths = [tokens] * len(self.whole) + [1] * len(self.first)
        layers = torch.split(from_vectors(reader, message), lengths, -2)
        pairs = zip([*self.whole, *self.first], layers, strict=True)
        return Cached({layer: (one[0], one[1]) for layer, one in pairs}, tokens)
