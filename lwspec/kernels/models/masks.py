"""Which token sees which, as a mask that transformers' models take as it is.

Shapes: B rows, P tokens of the common prefix, T tokens of the prompts behind it, F tokens fed
behind them, Q = T + F tokens that are run, K = P + Q tokens that they may see.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def causal_mask(
    config: Any,
    prefix: int,
    mask_BT: Tensor,
    positions_BQ: Tensor,
    dtype: torch.dtype,
    labels: Sequence[int] = (),
) -> Any:
    """What is added to attention scores [B, 1, Q, K], for each kind of layer where there are two.

    `labels` numbers the label of each token fed: it sees the prompt, and its own label's tokens
    before it.
    """
    rows, device = len(mask_BT), mask_BT.device
    of_prefix = torch.arange(prefix, device=device).expand(rows, -1)
    keys_BK = torch.cat([of_prefix, positions_BQ], 1)
    counts_BK = functional.pad(mask_BT.bool(), (prefix, len(labels)), value=True)
    behind_BQK = positions_BQ[:, :, None] - keys_BK[:, None, :]
    visible_BQK = counts_BK[:, None, :] & (behind_BQK >= 0)
    if labels:
        fed = functional.pad(torch.tensor(labels, device=device), (mask_BT.shape[1], 0), value=-1)
        seen = functional.pad(fed, (prefix, 0), value=-1)
        visible_BQK = visible_BQK & ((seen < 0) | (fed[:, None] == seen))
    return _for_layers(config, visible_BQK, behind_BQK, dtype)


def _for_layers(config: Any, visible_BQK: Tensor, behind_BQK: Tensor, dtype: torch.dtype) -> Any:
    """The mask, or one for each kind of layer: a sliding window forgets what lies behind it."""
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    full = _added(visible_BQK, dtype)
    if window is None or kinds == {"full_attention"}:
        return full
    sliding = _added(visible_BQK & (behind_BQK < window), dtype)
    return {"full_attention": full, "sliding_attention": sliding} if len(kinds) > 1 else sliding


def _added(visible_BQK: Tensor, dtype: torch.dtype) -> Tensor:
    """The smallest number where nothing is seen: a row that sees nothing at all stays finite."""
    added = torch.zeros(visible_BQK.shape, dtype=dtype, device=visible_BQK.device)
    return added.masked_fill(~visible_BQK, torch.finfo(dtype).min)[:, None]
