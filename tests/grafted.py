"""A model's answer where a plain hook changes its states: what grafts are held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lwspec.kernels.models.blocks import blocks_of
from lwspec.kernels.models.reader import Reader


def _hook(change: Callable[[Tensor], None], module: Any, args: Any, kwargs: Any) -> Any:
    states = (args[0] if args else kwargs["hidden_states"]).clone()
    change(states)
    return ((states, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": states})


def said_with(
    reader: Reader,
    prompt: Sequence[int],
    changes: Mapping[int, Callable[[Tensor], None]],
    token: int,
) -> Tensor:
    """Log-probability of a token after a prompt whose states [1, T, W] were changed on the way."""
    blocks = blocks_of(reader.model)
    handles = [
        blocks[layer].register_forward_pre_hook(partial(_hook, change), with_kwargs=True)
        for layer, change in changes.items()
    ]
    with torch.no_grad():
        logits = reader.model(torch.tensor([[*prompt]])).logits[0, -1]
    for handle in handles:
        handle.remove()
    return logits.log_softmax(-1)[token]
