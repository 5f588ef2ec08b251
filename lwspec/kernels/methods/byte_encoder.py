"""A small transformer over UTF-8 bytes: text to soft tokens without any sender model.

Shapes: B batch, T bytes, W inner width, M latents, R receiver width.
Source: the byte-encoder system of the LatentWire repository (commit 2bbd51d3): 6 layers of width
256, average-pooled to M latents, an adapter to the receiver's width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-8
PADDING = 256


class ByteEncoder(nn.Module):
    """Bytes in, M soft tokens out; each leaves with a learned root mean square."""

    def __init__(
        self,
        receiver_width: int,
        *,
        width: int,
        latents: int,
        depth: int,
        heads: int,
        max_bytes: int,
        rms: float,
    ) -> None:
        """`rms` is the output's initial root mean square: that of the receiver's embeddings."""
        super().__init__()
        self.latents = latents
        self.embed = nn.Embedding(PADDING + 1, width, padding_idx=PADDING)
        self.place = nn.Parameter(torch.randn(max_bytes, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width,
            heads,
            4 * width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encode = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.leave = nn.Linear(width, receiver_width)
        self.scale = nn.Parameter(torch.tensor(rms))

    def forward(self, bytes_BT: Tensor) -> Tensor:
        """Soft tokens [B, M, R] from byte values padded with 256."""
        padding = bytes_BT == PADDING
        x = self.embed(bytes_BT) + self.place[: bytes_BT.shape[1]]
        x = self.encode(x, src_key_padding_mask=padding).masked_fill(padding[..., None], 0.0)
        x = self.leave(_segment_means(x, (~padding).sum(1), self.latents))
        scaled: Tensor = self.scale * x / (x.pow(2).mean(-1, keepdim=True) + EPSILON).sqrt()
        return scaled


def _segment_means(x_BTW: Tensor, lengths_B: Tensor, segments: int) -> Tensor:
    """Means over equal segments of each row's own length: [B, segments, W].

    A row shorter than the number of segments leaves the surplus ones zero.
    """
    positions = torch.arange(x_BTW.shape[1], device=x_BTW.device)
    segment_BT = (positions[None, :] * segments) // lengths_B[:, None].clamp(min=1)
    inside = positions[None, :] < lengths_B[:, None]
    member_BTM = (
        functional.one_hot(segment_BT.clamp(max=segments - 1), segments) * inside[..., None]
    )
    member = member_BTM.to(x_BTW.dtype)
    counts = member.sum(1).clamp(min=1.0)
    return member.transpose(1, 2) @ x_BTW / counts[..., None]


def as_bytes(texts: list[str], most: int) -> Tensor:
    """UTF-8 bytes of each text, at most `most`, padded with 256: [B, T]."""
    rows = [torch.tensor([*text.encode()[:most]] or [PADDING]) for text in texts]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PADDING)
