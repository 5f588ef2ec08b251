"""One vector a row from the sender's states, or a few, and soft tokens from one vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from lwspec.kernels.arm import Batch, Setup


def pool(states_BTW: Tensor, pooling: str, mask_BT: Tensor) -> Tensor:
    """The last token's state, or the mean over tokens, of left-padded rows: [B, W] in float32."""
    if pooling == "last":
        return states_BTW[:, -1].float()
    weights = mask_BT[..., None].float()
    return (states_BTW.float() * weights).sum(1) / weights.sum(1)


def repeat_at_rms(vectors: Tensor, tokens: int, rms: float) -> list[Tensor]:
    """Each vector [width] as `tokens` equal soft tokens [tokens, width] of a root mean square."""
    scaled = rms * vectors / (vectors.pow(2).mean(-1, keepdim=True) + 1e-8).sqrt()
    return [row.expand(tokens, -1) for row in scaled]


def stretches(states: Sequence[Tensor], count: int) -> Tensor:
    """Means over `count` equal stretches of each row's states [T, W]: [B, count, W] in float32.

    Where tokens do not divide evenly, neighbours share the one at their border, so that no stretch
    is ever empty (torch's adaptive average pooling).
    """
    rows = [functional.adaptive_avg_pool1d(row.float().T[None], count)[0].T for row in states]
    return torch.stack(rows)


def pooled_inputs(setup: Setup, batch: Batch) -> list[Tensor]:
    """The means of as many stretches of each row's states as the arm has soft tokens.

    [rows, tokens, sender_width], where the reader is.
    """
    from lwspec.kernels.models.reader import to_device

    assert setup.reader is not None and batch.states is not None
    return [to_device(stretches(batch.states, setup.settings.tokens), setup.reader.device)]
