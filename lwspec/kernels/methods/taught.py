"""What the receiver makes of training texts that it reads itself: what maps are fitted to."""

from __future__ import annotations

import torch
from torch import Tensor

from lwspec.engine.job import READ_CHARS, ROWS_AT_ONCE
from lwspec.kernels.arm import Batch, Setup
from lwspec.kernels.data.batches import by_length
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.models.hidden import hidden_states
from lwspec.kernels.prompts import text_prompt

HELD = 10
"""Each so many-th row is not learnt, but measured."""


def held_out(rows: int, device: torch.device) -> Tensor:
    """Which rows a map is not fitted to, so that it can be measured on them: [rows]."""
    return torch.arange(rows, device=device) % HELD == 0


def receiver_states(setup: Setup, batch: Batch, layer: int, pooling: str) -> Tensor:
    """The receiver's states of its own prompt around each text, after `layer` blocks.

    [rows, receiver_width] in float32, the last token's or the mean over tokens, where the reader
    is.
    """
    assert setup.reader is not None
    fields = batch.fields or [{}] * len(batch.contexts)
    seen = [Seen(*row) for row in zip(batch.contexts, fields, strict=True)]
    prompts = [text_prompt(setup, "receiver_prompt", row) for row in seen]
    found: dict[int, Tensor] = {}
    for indices in by_length([len(text) for text in batch.contexts], ROWS_AT_ONCE, READ_CHARS):
        states = hidden_states(setup.reader, [prompts[index] for index in indices], layer)
        pooled = [row[-1].float() if pooling == "last" else row.float().mean(0) for row in states]
        found.update(zip(indices, pooled, strict=True))
    return torch.stack([found[index] for index in range(len(prompts))])
