"""What a model is given of tokens that it did not read: keys and values, and hidden states.

Keys and values stand before all tokens of a row, in some layers only; each layer's attention is
given its own, and gradients reach them. Shapes: B rows, P tokens read elsewhere, T tokens read
here, Q tokens that are run, K tokens that they may see, H key heads, D head width, W width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from lwspec.errors import ModelError
from lwspec.kernels.message import Cached, Graft, Prompt
from lwspec.kernels.models.blocks import attention_of, blocks_of
from lwspec.kernels.models.masks import sliding_layers

INJECTED = "lwspec_injected"


@dataclass(frozen=True)
class Held:
    """Keys and values [B, H, P, D] of one layer, and which of them count [B, P]."""

    keys: Tensor
    values: Tensor
    counts: Tensor


@dataclass(frozen=True)
class Grafted:
    """States [W] to mix into those of a token: its row, its place in the row, their share."""

    row: int
    place: int
    states: Tensor
    share: float


@dataclass(frozen=True)
class Injected:
    """What some prompts hold beside tokens and embeddings, by layer."""

    held: Mapping[int, Held]
    grafted: Mapping[int, Sequence[Grafted]]

    @property
    def later(self) -> Injected:
        """What tokens that follow the prompts are given: keys and values alone."""
        return Injected(self.held, {})


def cached_tokens(prompt: Prompt) -> int:
    """How many of a prompt's tokens were read elsewhere: those of its first segment alone."""
    assert not any(isinstance(part, Cached) for part in prompt[1:]), "keys and values come first"
    return len(prompt[0]) if prompt and isinstance(prompt[0], Cached) else 0


def gather(prompts: Sequence[Prompt], starts: Sequence[int]) -> Injected | None:
    """What prompts hold beside tokens and embeddings; None where that is nothing.

    `starts` says where in its padded row each prompt begins to be read.
    """
    grafted: dict[int, list[Grafted]] = {}
    cached: dict[int, Cached] = {}
    for row, (prompt, place) in enumerate(zip(prompts, starts, strict=True)):
        for part in prompt:
            if isinstance(part, Cached):
                cached[row] = part
            elif isinstance(part, Graft):
                for layer in part.layers:
                    grafted.setdefault(layer, []).extend(_grafted(part, row, place))
            else:
                place += len(part)
    layers = sorted({layer for one in cached.values() for layer in one.layers})
    held = {layer: _held(cached, layer, len(prompts)) for layer in layers}
    return Injected(held, grafted) if held or grafted else None


def _grafted(graft: Graft, row: int, end: int) -> list[Grafted]:
    first = end - len(graft.states)
    return [Grafted(row, first + n, one, graft.share) for n, one in enumerate(graft.states)]


def _held(cached: Mapping[int, Cached], layer: int, rows: int) -> Held:
    """One layer's keys and values side by side, padded on the left."""
    given = {row: one.layers[layer] for row, one in cached.items() if layer in one.layers}
    some, _ = next(iter(given.values()))
    most = max(keys.shape[1] for keys, _ in given.values())
    counts = torch.zeros(rows, most, dtype=torch.bool, device=some.device)
    empty = some.new_zeros(some.shape[0], most, some.shape[2])
    keys, values = [empty] * rows, [empty] * rows
    for row, (own_keys, own_values) in given.items():
        missing = most - own_keys.shape[1]
        counts[row, missing:] = True
        keys[row], values[row] = (
            torch.nn.functional.pad(each, (0, 0, missing, 0)) for each in (own_keys, own_values)
        )
    return Held(torch.stack(keys), torch.stack(values), counts)


def refuse_forgotten(config: Any, injected: Injected | None, tokens: int) -> None:
    """Raise ModelError where a sliding window would forget keys before the last of so many tokens.

    Held keys are seen by all tokens, since their positions are not known.
    """
    layers = sliding_layers(config)
    if injected is None or not layers & injected.held.keys() or tokens <= config.sliding_window:
        return
    raise ModelError(
        f"layers that see {config.sliding_window} tokens back are given keys and values in a "
        f"prompt of {tokens}",
        remedy="lower max_prompt_tokens, or choose a receiver without sliding windows",
    )


def injected_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention to the layer's held keys and values, then to those of tokens that were read.

    `query` is [B, heads, Q, D], `key` and `value` [B, H, K, D], the mask is added to scores
    [B, 1, Q, K]; returns [B, Q, heads, D]. Raises ModelError for sinks and capped scores.
    """
    if softcap is not None or s_aux is not None:
        raise ModelError(
            f"{type(module).__name__} has an attention of its own, which no keys can be given",
            remedy="choose another receiver, or another arm",
        )
    held: Held | None = module.held
    if held is not None:
        key = torch.cat([held.keys.to(key), key], 2)
        value = torch.cat([held.values.to(value), value], 2)
        counts = held.counts.to(attention_mask.device)  # layers may lie on several GPUs
        shown = attention_mask.new_zeros(counts.shape)
        shown = shown.masked_fill(~counts, torch.finfo(shown.dtype).min)
        shown = shown[:, None, None].expand(-1, -1, attention_mask.shape[2], -1)
        attention_mask = torch.cat([shown, attention_mask], -1)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **others)


AttentionInterface.register(INJECTED, injected_attention)


@contextmanager
def injecting(model: Any, injected: Injected | None) -> Iterator[None]:
    """Within, the model's blocks are given it. Raises ModelError for a layer that it lacks."""
    if injected is None:
        yield
        return
    blocks = list(blocks_of(model))
    beyond = [n for n in (*injected.held, *injected.grafted) if n >= len(blocks)]
    if beyond:
        raise ModelError(
            f"something is handed over for layer {beyond[0]}; the model has {len(blocks)}",
            remedy=f"name layers below {len(blocks)}",
        )
    config = model.config.get_text_config()
    with ExitStack() as stack:
        if injected.held:
            stack.enter_context(_held_by(config, blocks, injected.held))
        for layer, grafted in injected.grafted.items():
            hook = blocks[layer].register_forward_pre_hook(
                partial(_graft, grafted), with_kwargs=True
            )
            stack.callback(hook.remove)
        yield


@contextmanager
def _held_by(config: Any, blocks: Sequence[Any], held: Mapping[int, Held]) -> Iterator[None]:
    attentions = [attention_of(block) for block in blocks]
    usual = config._attn_implementation
    try:
        config._attn_implementation = INJECTED
        for layer, attention in enumerate(attentions):
            attention.held = held.get(layer)
        yield
    finally:
        config._attn_implementation = usual
        for attention in attentions:
            vars(attention).pop("held", None)


def _graft(
    grafted: Sequence[Grafted], block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A block's input [B, T, W] with states mixed in."""
    states: Tensor = args[0] if args else kwargs["hidden_states"]
    rows = torch.tensor([one.row for one in grafted], device=states.device)
    places = torch.tensor([one.place for one in grafted], device=states.device)
    shares = torch.tensor([[one.share] for one in grafted], device=states.device)
    given = torch.stack([one.states for one in grafted]).to(states.device)
    mixed = (1 - shares) * states[rows, places].float() + shares * given.float()
    states = states.index_put((rows, places), mixed.to(states.dtype))
    if args:
        return (states, *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": states}
