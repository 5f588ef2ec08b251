"""A model that thinks on in its own hidden states: LatentMAS's latent steps.

The last hidden state is mapped to what the model is run on, scaled to the mean norm of its
embeddings, and read as the next token (models.py of the LatentMAS repository).
Shapes: B rows, V vocabulary, W width, D layers, H key heads, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache

from lwspec.kernels.message import Prompt
from lwspec.kernels.models.keys_values import (
    last_kept,
    refuse_other_positions,
    refuse_other_states,
)
from lwspec.kernels.models.reader import Reader

Realign: TypeAlias = Literal["identity", "ridge", "random"]

PENALTY = 1e-5
ROWS_AT_ONCE = 8192
"""Of the vocabulary, in float32."""


@dataclass(frozen=True)
class Alignment:
    """How a last hidden state becomes an embedding: a map [W, W], and the norm it is scaled to."""

    map_WW: Tensor
    norm: float

    def __call__(self, state_B1W: Tensor) -> Tensor:
        """Embeddings [B, 1, W] of states [B, 1, W], in their dtype."""
        mapped = state_B1W.float() @ self.map_WW
        norms: Tensor = torch.linalg.vector_norm(mapped, dim=-1, keepdim=True)
        return (mapped * self.norm / norms.clamp(min=1e-6)).to(state_B1W.dtype)


_MADE: WeakKeyDictionary[Reader, dict[Realign, Alignment]] = WeakKeyDictionary()


def alignment(reader: Reader, realign: Realign) -> Alignment:
    """A model's alignment, computed once for as long as it is loaded."""
    made = _MADE.setdefault(reader, {})
    if realign not in made:
        made[realign] = Alignment(realignment(reader, realign), embedding_norm(reader))
    return made[realign]


@torch.no_grad()
def realignment(reader: Reader, realign: Realign) -> Tensor:
    """The map W_a from a last hidden state to an embedding, as state @ map: [W, W], in float32.

    The ridge regression (W_out' W_out + 1e-5 I)^-1 W_out' W_in of embeddings on the rows of the
    language head; the identity; or one orthogonal map, always the same.
    """
    if realign == "identity":
        return torch.eye(reader.width, device=reader.device)
    if realign == "random":
        drawn = torch.empty(reader.width, reader.width)
        nn.init.orthogonal_(drawn, generator=torch.Generator().manual_seed(0))
        return drawn.to(reader.device)
    gram = PENALTY * torch.eye(reader.width, dtype=torch.float64, device=reader.device)
    moments = torch.zeros_like(gram)
    head_VW = reader.model.get_output_embeddings().weight.to(reader.device)
    for ids, embedded in _vocabulary(reader):
        head = head_VW[ids].float()
        gram += head.T @ head
        moments += head.T @ embedded
    solved: Tensor = torch.linalg.solve(gram, moments)
    return solved.float()


@torch.no_grad()
def embedding_norm(reader: Reader) -> float:
    """The mean norm of what the model is run on, over its vocabulary."""
    norms = [embedded.norm(dim=1) for _, embedded in _vocabulary(reader)]
    return float(torch.cat(norms).mean())


def _vocabulary(reader: Reader) -> Iterator[tuple[Tensor, Tensor]]:
    """All token ids in stretches, with their embeddings in float32, scaled as a family does."""
    ids = torch.arange(reader.embedding.num_embeddings, device=reader.device)
    for part in torch.split(ids, ROWS_AT_ONCE):
        yield part, reader.embedding(part).float()


@torch.no_grad()
def think(reader: Reader, prompts: Sequence[Prompt], steps: int, align: Alignment) -> list[Tensor]:
    """Keys and values [D, 2, H, T, head_width] of each prompt, and of so many latent steps after.

    Raises ModelError for models whose layers keep something beside keys and values, and for those
    without rotary positions.
    """
    refuse_other_states(reader)
    refuse_other_positions(reader)
    padded, cache = reader.pad(prompts), DynamicCache()
    base = getattr(reader.model, reader.model.base_model_prefix)
    embeds, mask, position = padded.embeds, reader.mask(padded), padded.positions
    counts, keys = padded.mask, padded.positions
    for step in range(steps + 1):
        state_B1W = (
            base(
                inputs_embeds=embeds,
                attention_mask=mask,
                position_ids=position,
                past_key_values=cache,
                use_cache=True,
            )
            .last_hidden_state[:, -1:]
            .to(reader.device)
        )
        if step < steps:
            embeds = align(state_B1W)
            position = position[:, -1:] + 1
            counts, keys = functional.pad(counts, (0, 1), value=1), torch.cat([keys, position], 1)
            mask = reader.causal_mask(counts, keys, position)
    return last_kept(reader, cache, counts.sum(1).tolist())
