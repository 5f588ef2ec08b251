"""The decoder blocks of a model, whatever its family calls them."""

from __future__ import annotations

from typing import Any

import torch

from lwspec.errors import ModelError

ATTENTION = {"self_attn", "attn", "self_attention", "attention"}
"""What families call a block's attention."""


def blocks_of(model: Any) -> Any:
    """The list of decoder blocks. Raises ModelError where none is found."""
    depth = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth:
            return module
    raise ModelError(f"no list of {depth} blocks was found in {type(model).__name__}")


def attention_of(block: Any) -> Any:
    """A block's attention."""
    (found,) = (part for name, part in block.named_children() if name in ATTENTION)
    return found
