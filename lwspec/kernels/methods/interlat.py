"""Interlat's adapter: attention among the sender's states, between two norms, and a projection.

Shapes: B rows, K states, S sender width, R receiver width.
Source: Interlat (github.com/XiaoDu-flying/Interlat at 66a89cb): 8 heads, the attention's output
added to the normalised states. The projection is a linear map here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Adapter(nn.Module):
    """scale * W norm(x + attention(x)) of x = norm(states)."""

    def __init__(self, sender_width: int, receiver_width: int, *, heads: int, rms: float) -> None:
        """`rms` is where the learned scale begins: that of the receiver's embeddings."""
        super().__init__()
        self.before = nn.LayerNorm(sender_width)
        self.attention = nn.MultiheadAttention(sender_width, heads, batch_first=True)
        self.after = nn.LayerNorm(sender_width)
        self.leave = nn.Linear(sender_width, receiver_width)
        self.scale = nn.Parameter(torch.tensor(rms))

    def forward(self, states_BKS: Tensor) -> Tensor:
        """Soft tokens [B, K, R]."""
        x = self.before(states_BKS)
        read, _ = self.attention(x, x, x, need_weights=False)
        made: Tensor = self.scale * self.leave(self.after(x + read))
        return made
