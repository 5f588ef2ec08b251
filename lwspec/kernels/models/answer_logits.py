"""The receiver's pass that an arm learns from: logits of the answers' tokens, with gradients.

Shapes: B rows, T tokens, P tokens of the common prefix, W width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache

from lwspec.kernels.message import Prompt
from lwspec.kernels.models.captured import Captured
from lwspec.kernels.models.compiled import DENSE_TOKENS, dense
from lwspec.kernels.models.injected import injecting
from lwspec.kernels.models.prefix import Prefix
from lwspec.kernels.models.reader import Padded, Reader
from lwspec.kernels.training.loss import IGNORED

EXACT_TOKENS = 32
"""Longer passes are captured at multiples of 16 tokens, so that there are few of them."""


def answer_logits(
    reader: Reader, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor]:
    """Logits [B, T, V] in float32 over the answers' tokens, and the tokens [B, T].

    Answers are aligned at their ends; what stands before a shorter one is `IGNORED` among the
    tokens. Gradients reach what the prompts hold of tensors.
    """
    padded = reader.pad(prompts, [answer[:-1] for answer in answers], share=True)
    longest = max(map(len, answers))
    recorded = reader.compiled and reader.frozen and reader.device.type == "cuda"
    recorded = recorded and padded.injected is None
    if recorded and torch.is_grad_enabled():  # a teacher is only read, between two of these
        logits_BTV = _replayed(reader, padded, longest)
    else:
        logits_BTV = _plain(reader, padded, longest)
    aligned = [[IGNORED] * (longest - len(answer)) + list(answer) for answer in answers]
    return logits_BTV.float(), reader.tensor(aligned)


def _logits(
    reader: Reader, padded: Padded, mask: Any, last: int, cache: DynamicCache | None
) -> Tensor:
    """Logits [B, last, V] of the last tokens; the prefix lies in the cache, or with the blocks."""
    with injecting(reader.model, padded.injected):
        logits: Tensor = reader.model(
            inputs_embeds=padded.embeds,
            attention_mask=mask,
            position_ids=padded.positions,
            past_key_values=cache,
            use_cache=False,
            logits_to_keep=last,
        ).logits
    return logits


def _plain(reader: Reader, padded: Padded, last: int) -> Tensor:
    cache = reader.cache(padded.prefix, len(padded.embeds)) if padded.prefix else None
    return _logits(reader, padded, reader.mask(padded), last, cache)


def _replayed(reader: Reader, padded: Padded, last: int) -> Tensor:
    """The same from a recorded pass, which is recorded where this shape is new."""
    longer = -len(padded.mask[0]) % 16 if len(padded.mask[0]) > EXACT_TOKENS else 0
    inputs = (
        functional.pad(padded.embeds, (0, 0, longer, 0)),
        functional.pad(padded.mask, (longer, 0)),
        functional.pad(padded.positions, (longer, 0)),
    )
    key = (padded.prefix, inputs[0].shape, last)
    captured = reader.passes.get(key)
    if captured is None:
        prefix = reader.prefix(padded.prefix)
        work = partial(_dense, reader, prefix, padded.prefix, last)
        captured = _capture(reader, key, inputs, work)
    logits: Tensor = _Replay.apply(captured, *inputs)  # type: ignore[no-untyped-call]
    return logits


def _dense(
    reader: Reader,
    prefix: Prefix,
    ids: tuple[int, ...],
    last: int,
    embeds_BTW: Tensor,
    mask_BT: Tensor,
    positions_BT: Tensor,
) -> Tensor:
    """Logits [B, last, V] by a pass with dense attention, unless it is long."""
    padded = Padded(embeds_BTW, mask_BT, positions_BT, ids)
    # The model's own way to a mask may ask the host what counts, which no recording allows.
    mask = reader.causal_mask(padded.whole_mask, padded.whole_positions, padded.positions)
    if len(ids) + mask_BT.shape[1] > DENSE_TOKENS:
        return _logits(reader, padded, mask, last, prefix.cache(len(embeds_BTW)) if ids else None)
    with dense(reader.model, prefix):
        return _logits(reader, padded, mask, last, None)


def _capture(
    reader: Reader, key: Hashable, inputs: Sequence[Tensor], work: Callable[..., Tensor]
) -> Captured:
    """Run it once, which compiles what is to be compiled, then record it."""
    embeds = inputs[0].detach().requires_grad_()
    made = work(embeds, *inputs[1:])
    torch.autograd.grad(made, embeds, torch.zeros_like(made))

    def backward(inputs: Sequence[Tensor], made: Tensor, gradient: Tensor) -> Tensor:
        (of_embeds,) = torch.autograd.grad(made, inputs[0], gradient)
        return of_embeds

    return reader.passes.capture(key, [embeds, *inputs[1:]], work, backward)


class _Replay(torch.autograd.Function):
    """A recorded pass as a step of autograd."""

    @staticmethod
    def forward(ctx: Any, captured: Captured, *inputs: Tensor) -> Tensor:
        """Logits, which the next replay writes over."""
        ctx.captured = captured
        return captured.forward(*inputs).detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """The gradient of the embeddings alone, which the next replay writes over."""
        return (None, ctx.captured.backward(gradients[0]), None, None)
