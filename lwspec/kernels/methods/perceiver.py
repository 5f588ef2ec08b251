"""The perceiver resampler of the LatentWire bridge: sender states to soft tokens.

Shapes: B batch, T sender tokens, M latents, S sender width, R receiver width, W inner width.
Source: latent_bridge_v15.py of the LatentWire repository; pre-LN on the queries alone, the keys
are not normalised; width W is a setting here, with projections where it differs from S or R.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from lwspec.kernels.models.reader import to_device

EPSILON = 1e-8


class Block(nn.Module):
    """Cross-attention to the sender, self-attention among latents, and a feed-forward of 4 W."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_cross = nn.LayerNorm(width)
        self.norm_self = nn.LayerNorm(width)
        self.norm_feed = nn.LayerNorm(width)
        self.cross = nn.MultiheadAttention(width, heads, batch_first=True)
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x_BMW: Tensor, states_BTW: Tensor, padding_BT: Tensor) -> Tensor:
        """One round of reading the sender's states."""
        query = self.norm_cross(x_BMW)
        read, _ = self.cross(
            query, states_BTW, states_BTW, key_padding_mask=padding_BT, need_weights=False
        )
        x_BMW = x_BMW + read
        query = self.norm_self(x_BMW)
        mixed, _ = self.self_attention(query, query, query, need_weights=False)
        x_BMW = x_BMW + mixed
        fed: Tensor = self.feed(self.norm_feed(x_BMW))
        return x_BMW + fed


class Perceiver(nn.Module):
    """M learned latents read the sender's states, and leave as soft tokens of a certain RMS."""

    def __init__(
        self,
        sender_width: int,
        receiver_width: int,
        *,
        width: int,
        latents: int,
        depth: int,
        heads: int,
        rms: float,
        calibration: str = "learned",
    ) -> None:
        """`rms` is the output's root mean square, at first or, unless it is `learned`, for good."""
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, width) * 0.02)
        self.enter = _projection(sender_width, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.leave = _projection(width, receiver_width)
        if calibration == "learned":
            self.scale = nn.Parameter(torch.tensor(rms))
        else:
            self.register_buffer("scale", torch.tensor(rms))
        self.over = (-2, -1) if calibration == "example" else (-1,)

    def forward(self, states_BTS: Tensor, padding_BT: Tensor) -> Tensor:
        """Soft tokens [B, M, R] from padded states; `padding_BT` is True on padding."""
        states = self.enter(states_BTS)
        x = self.latents.expand(states.shape[0], -1, -1)
        for block in self.blocks:
            x = block(x, states, padding_BT)
        x = self.leave(x)
        scaled: Tensor = self.scale * x / (x.pow(2).mean(self.over, keepdim=True) + EPSILON).sqrt()
        return scaled


def _projection(width_in: int, width_out: int) -> nn.Module:
    return nn.Identity() if width_in == width_out else nn.Linear(width_in, width_out)


def pad_states(states: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Right-padded states [B, T, S] in float32 and the mask [B, T] that is True on padding.

    On a GPU T is a multiple of 16, so that few shapes occur.
    """
    padded = nn.utils.rnn.pad_sequence(list(states), batch_first=True)
    if device.type == "cuda":
        padded = functional.pad(padded, (0, 0, 0, -padded.shape[1] % 16))
    lengths = to_device(torch.tensor([len(s) for s in states]), device)
    positions = torch.arange(padded.shape[1], device=device)
    return to_device(padded, device).float(), positions[None, :] >= lengths[:, None]


def batch_similarity(messages_BMR: Tensor) -> Tensor:
    """Mean cosine between the flattened messages of different rows; 0 for a single row.

    Minimised beside the answer's loss, it keeps the bridge from saying the same of every text.
    """
    rows = messages_BMR.shape[0]
    if rows < 2:
        return messages_BMR.new_zeros(())
    flat = functional.normalize(messages_BMR.flatten(1), dim=1)
    similarity = flat @ flat.T
    return (similarity.sum() - similarity.diagonal().sum()) / (rows * (rows - 1))
