"""One vector a row from the sender's states, and soft tokens from one vector."""

from __future__ import annotations

from torch import Tensor


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
