"""Which token sees which, as a mask that transformers' models take as it is.

Shapes: B rows, Q tokens that are run, K tokens that they may see.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def causal_mask(
    config: Any,
    counts_BK: Tensor,
    keys_BK: Tensor,
    queries_BQ: Tensor,
    dtype: torch.dtype,
    labels: Sequence[int] = (),
) -> Any:
    """What is added to attention scores [B, 1, Q, K], for each kind of layer where there are two.

    By the positions of keys and queries, not by where they lie: padding may stand between them.
    `labels` numbers the label of each of the last tokens, which sees the prompt, and its own
    label's tokens before it.
    """
    behind_BQK = queries_BQ[:, :, None] - keys_BK[:, None, :]
    visible_BQK = counts_BK.bool()[:, None, :] & (behind_BQK >= 0)
    if labels:
        fed = torch.tensor(labels, device=keys_BK.device)
        asked = functional.pad(fed, (queries_BQ.shape[1] - len(labels), 0), value=-1)
        seen = functional.pad(fed, (keys_BK.shape[1] - len(labels), 0), value=-1)
        visible_BQK = visible_BQK & ((seen < 0) | (asked[:, None] == seen))
    return _for_layers(config, visible_BQK, behind_BQK, dtype)


def _for_layers(config: Any, visible_BQK: Tensor, behind_BQK: Tensor, dtype: torch.dtype) -> Any:
    """The mask, or one for each kind of layer: a sliding window forgets what lies behind it."""
    full, layers = _added(visible_BQK, dtype), sliding_layers(config)
    if not layers:
        return full
    sliding = _added(visible_BQK & (behind_BQK < config.sliding_window), dtype)
    if len(layers) == config.num_hidden_layers:
        return sliding
    return {"full_attention": full, "sliding_attention": sliding}


def sliding_layers(config: Any) -> set[int]:
    """The layers that see a window of the last tokens: all where kinds are not told apart."""
    if getattr(config, "sliding_window", None) is None:
        return set()
    kinds = getattr(config, "layer_types", None)
    every = range(config.num_hidden_layers)
    return {n for n in every if not kinds or kinds[n] == "sliding_attention"}


def _added(visible_BQK: Tensor, dtype: torch.dtype) -> Tensor:
    """The smallest number where nothing is seen: a row that sees nothing at all stays finite."""
    added = torch.zeros(visible_BQK.shape, dtype=dtype, device=visible_BQK.device)
    return added.masked_fill(~visible_BQK, torch.finfo(dtype).min)[:, None]
