"""A frozen model made faster: its blocks compiled, its short passes' attention computed densely.

Nothing here changes what is computed, but sums may be rounded otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from lwspec.engine.modes import own_cache
from lwspec.errors import ModelError
from lwspec.kernels.models.blocks import ATTENTION, attention_of, blocks_of

if TYPE_CHECKING:
    from lwspec.kernels.models.prefix import Prefix

DENSE = "lwspec_dense"

DENSE_TOKENS = 128
"""Above this many tokens the attention scores of a training pass would fill the memory."""


def compile_blocks(model: Any) -> None:
    """Compile what each block does beside its attention, once for all blocks and all shapes.

    The attention of passes that keep a KV cache reads its layer's number, which would compile it
    anew for each layer. Compiled code is kept for other processes, pickles among it, which are not
    left to torch's folder in /tmp: whoever makes that first owns it.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(own_cache("torchinductor")))
    for block in blocks_of(model):
        for name, part in block.named_children():
            if name not in ATTENTION:
                part.compile(dynamic=True)


def dense_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """Attention by two matrix products, the query heads of one key head together.

    `query` is [B, heads, Q, D], `key` and `value` [B, key heads, Q, D], to which the module's
    prefix is added, the mask is added to scores [B, 1, Q, P + Q]; returns [B, Q, heads, D]. On a
    few tokens this is several times faster, back and forth, than the fused kernels, which are made
    for thousands. Raises ModelError for attention sinks.
    """
    if s_aux is not None:
        raise ModelError(
            f"{type(module).__name__} has attention sinks, which compiled passes do not know",
            remedy="set resources.compile = false",
        )
    rows, heads, asked, _ = query.shape
    if module.prefix is not None:
        keys, values = module.prefix
        key = torch.cat([keys.expand(rows, -1, -1, -1), key], 2)
        value = torch.cat([values.expand(rows, -1, -1, -1), value], 2)
    groups = heads // key.shape[1]
    grouped = query.reshape(rows, key.shape[1], groups * asked, -1)
    # Scaled before the product, which would overflow float16.
    grouped = grouped * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = (grouped @ key.transpose(-1, -2)).view(rows, key.shape[1], groups, asked, -1)
    scaled = scores.float()
    if softcap is not None:
        scaled = softcap * (scaled / softcap).tanh()
    weights = (scaled + attention_mask[:, :, None].float()).softmax(-1).to(value.dtype)
    mixed = weights.view(rows, key.shape[1], groups * asked, -1) @ value
    return mixed.view(rows, heads, asked, -1).transpose(1, 2), None


AttentionInterface.register(DENSE, dense_attention)


@contextmanager
def dense(model: Any, prefix: Prefix, attention: str = DENSE) -> Iterator[None]:
    """Within, all blocks use this attention behind a prefix, and are compiled as a whole."""
    config = model.config.get_text_config()
    usual, blocks = config._attn_implementation, list(blocks_of(model))
    config._attn_implementation = attention
    layers: Sequence[Any] = prefix.layers or [None] * len(blocks)
    for block, layer in zip(blocks, layers, strict=True):
        attention_of(block).prefix = layer
        block.forward = torch.compile(block.forward, dynamic=True)
    try:
        yield
    finally:
        config._attn_implementation = usual
        for block in blocks:
            del attention_of(block).prefix
            del block.forward
