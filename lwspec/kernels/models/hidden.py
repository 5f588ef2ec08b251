"""Hidden states of a frozen model: of one layer in full, or of every layer pooled.

Layer 0 is the embeddings; the last layer's states have passed the final norm, as in transformers'
`hidden_states`. Shapes: B rows, T tokens, W width, D layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lwspec.errors import ModelError
from lwspec.kernels.message import Prompt
from lwspec.kernels.models.blocks import blocks_of
from lwspec.kernels.models.injected import injecting
from lwspec.kernels.models.pool import pool
from lwspec.kernels.models.reader import Padded, Reader


class _StopForward(Exception):
    """Raised inside a forward pass once the wanted layer has been seen."""


@torch.no_grad()
def hidden_states(reader: Reader, prompts: Sequence[Prompt], layer: int) -> list[Tensor]:
    """States [tokens, width] of each prompt after `layer` blocks; nothing above is run.

    Raises ModelError for a layer that the model lacks.
    """
    blocks = blocks_of(reader.model)
    if layer > len(blocks):
        raise ModelError(
            f"layer {layer} is asked for; the model has {len(blocks)}",
            remedy=f"set layer to at most {len(blocks)}",
        )
    padded = reader.pad(prompts)
    with injecting(reader.model, padded.injected):
        states_BTW = _run_to(reader.model, layer, blocks, _arguments(reader, padded))
    return _unpadded(states_BTW, padded)


@torch.no_grad()
def pooled_states(reader: Reader, prompts: Sequence[Prompt], pooling: str) -> list[Tensor]:
    """States [layers + 1, width] of each prompt, pooled over its tokens, in float32."""
    padded = reader.pad(prompts)
    with injecting(reader.model, padded.injected):
        base, given = _base(reader.model), _arguments(reader, padded)
        layers = base(**given, output_hidden_states=True).hidden_states
    here = [states.to(reader.device) for states in layers]  # layers may lie on several GPUs
    pooled_BDW = torch.stack([pool(states, pooling, padded.mask) for states in here], 1)
    return list(pooled_BDW)


def last_states(reader: Reader, prompts: Sequence[Prompt], tokens: int) -> Tensor:
    """The last layer's states of each prompt's last tokens, so many: [B, tokens, W].

    Gradients reach what the prompts hold of tensors; call it without where none are wanted.
    """
    padded = reader.pad(prompts)
    with injecting(reader.model, padded.injected):
        states: Tensor = _base(reader.model)(**_arguments(reader, padded)).last_hidden_state
    return states[:, -tokens:].to(reader.device)  # the last layer may lie on another GPU


def _arguments(reader: Reader, padded: Padded) -> dict[str, Any]:
    return {
        "inputs_embeds": padded.embeds,
        "attention_mask": reader.mask(padded),
        "position_ids": padded.positions,
        "use_cache": False,
    }


def _unpadded(states_BTW: Tensor, padded: Padded) -> list[Tensor]:
    lengths = padded.mask.sum(1).tolist()
    return [row[-length:] for row, length in zip(states_BTW, lengths, strict=True)]


def _base(model: Any) -> Any:
    """The model below its language head."""
    return getattr(model, model.base_model_prefix)


def _run_to(model: Any, layer: int, blocks: Any, arguments: dict[str, Any]) -> Tensor:
    if layer == len(blocks):
        last: Tensor = _base(model)(**arguments).last_hidden_state
        return last
    seen: list[Tensor] = []

    def stop(module: Any, args: Any, kwargs: Any) -> None:
        seen.append(args[0] if args else kwargs["hidden_states"])
        raise _StopForward

    hook = blocks[layer].register_forward_pre_hook(stop, with_kwargs=True)
    try:
        model(**arguments)
    except _StopForward:
        pass
    finally:
        hook.remove()
    return seen[0]
