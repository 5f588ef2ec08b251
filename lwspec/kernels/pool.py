"""One vector a row from the sender's states, and soft tokens from one vector."""

from __future__ import annotations

import torch
from torch import Tensor

from lwspec.kernels.arm import Batch


def pool(batch: Batch, pooling: str) -> Tensor:
    """The last token's state, or the mean over tokens: [rows, sender_width] in float32."""
    assert batch.states is not None
    rows = [states.float().cpu() for states in batch.states]
    return torch.stack([states[-1] if pooling == "last" else states.mean(0) for states in rows])


def repeat_at_rms(vectors: Tensor, tokens: int, rms: float) -> list[Tensor]:
    """Each vector [width] as `tokens` equal soft tokens [tokens, width] of a root mean square."""
    scaled = rms * vectors / (vectors.pow(2).mean(-1, keepdim=True) + 1e-8).sqrt()
    return [row.expand(tokens, -1) for row in scaled]
