"""Greedy decoding of a compiled model on a GPU: the step of one token is recorded, then replayed.

A step works on the tensors of its recording, among them keys and values of a fixed length: those of
the prompts are copied into them, and what is not theirs counts nowhere. Shapes: B rows, K tokens of
the prompts, H key heads, D head width; R rows and L tokens that the step has room for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AttentionInterface, DynamicCache

from lwspec.kernels.models.blocks import attention_of, blocks_of
from lwspec.kernels.models.compiled import dense, dense_attention
from lwspec.kernels.models.prefix import Prefix

if TYPE_CHECKING:
    from lwspec.kernels.models.reader import Padded, Reader

WRITING = "lwspec_writing"

KEY = "decoding"
"""Of the one step that a reader keeps: each holds keys and values of its own."""
ROWS, TOKENS = 16, 64
"""A step has room for a multiple of so many, since batches and prompts come in many sizes."""
ROOMY = 4
"""A step with room for so many times the tokens still serves; a longer one would read too much."""


@dataclass(frozen=True)
class Started:
    """Prompts that were read: the KV cache, and the most probable next token [B]."""

    padded: Padded
    cache: DynamicCache
    next_B: Tensor


def records(reader: Reader, padded: Padded) -> bool:
    """Whether what follows these prompts is written by a recorded step."""
    able = reader.compiled and reader.frozen and reader.by_position
    return able and reader.device.type == "cuda" and padded.injected is None


@torch.no_grad()
def go_on(reader: Reader, started: Started, most: int, stop_at_end: bool) -> Tensor:
    """Greedy token ids [B, written]: until every row has ended, or `most` in any case."""
    tokens = [started.next_B]
    ended = tokens[0] == reader.eos
    step: Step | None = None
    while len(tokens) < most and not (stop_at_end and bool(ended.all())):
        step = step or _loaded(reader, started, most)
        tokens.append(step.write()[: len(ended)])
        ended = ended | (tokens[-1] == reader.eos)
    return torch.stack(tokens, 1)


def _loaded(reader: Reader, started: Started, most: int) -> Step:
    """A step that has read the prompts: the one that is kept, unless it has no room for them."""
    rows, known = started.padded.whole_mask.shape
    length = _rounded(known + most, TOKENS)
    step: Step | None = reader.passes.get(KEY)
    if step is None or step.rows < rows or not length <= step.length <= ROOMY * length:
        del step  # so that its memory is free for the next
        rows = _rounded(rows, ROWS) if rows > ROWS else rows
        step = reader.passes.keep(KEY, partial(Step, reader, started, rows, length))
    step.load(started)
    return step


def _rounded(number: int, to: int) -> int:
    return -(-number // to) * to


class Step:
    """One token more in each of R rows."""

    def __init__(
        self, reader: Reader, started: Started, rows: int, length: int, pool: Any = None
    ) -> None:
        """Recorded in the memory of `pool` where there is a GPU."""
        self.rows, self.length = rows, length
        self._reader = reader
        self._layers = [
            (_room(keys, rows, length), _room(values, rows, length))
            for keys, values in _kept(started)
        ]
        counts = started.padded.whole_mask
        self._counts, self._positions = counts.new_zeros(2, rows, length).unbind()
        self._token, self._position = counts.new_zeros(2, rows, 1).unbind()
        self._place = counts.new_zeros(1)
        self._graph: torch.cuda.CUDAGraph | None = None
        if reader.device.type == "cuda":
            self._graph = self._recorded(pool)

    def _recorded(self, pool: Any) -> torch.cuda.CUDAGraph:
        """The graph of one step, after one that makes all that is made once."""
        with _writing(self._reader.model, self._layers, self._place):
            self._once()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                self._once()
        return graph

    def load(self, started: Started) -> None:
        """Put the prompts in the place of what was written before."""
        padded = started.padded
        for held, (keys, values) in zip(self._layers, _kept(started), strict=True):
            for room, given in zip(held, (keys, values), strict=True):
                room.zero_()  # what is masked still counts zero times, which of a NaN is a NaN
                room[: len(given), :, : given.shape[2]] = given
        _put(self._counts, padded.whole_mask)
        _put(self._positions, padded.whole_positions)
        _put(self._position, padded.next_positions)
        _put(self._token, started.next_B[:, None])
        self._place.fill_(padded.whole_mask.shape[1])

    def write(self) -> Tensor:
        """The next token [R] of every row."""
        if self._graph is not None:
            self._graph.replay()
        else:
            with _writing(self._reader.model, self._layers, self._place):
                self._once()
        return self._token[:, 0].clone()

    def _once(self) -> None:
        """Read the last token of every row, and put the next in its place."""
        self._counts.index_fill_(1, self._place, 1)
        self._positions.index_copy_(1, self._place, self._position)
        logits = self._reader.model(
            input_ids=self._token,
            attention_mask=self._reader.causal_mask(self._counts, self._positions, self._position),
            position_ids=self._position,
            use_cache=False,
        ).logits
        self._token.copy_(logits.argmax(-1))
        self._position.add_(1)
        self._place.add_(1)


def _room(like: Tensor, rows: int, length: int) -> Tensor:
    """Zeros [R, H, L, D] for keys or values [B, H, K, D]."""
    return like.new_zeros(rows, like.shape[1], length, like.shape[3])


def _put(held: Tensor, given: Tensor) -> None:
    """Put numbers of B rows into the first ones of R rows, with zeros around them."""
    held.zero_()
    held[: given.shape[0], : given.shape[1]] = given


def _kept(started: Started) -> list[tuple[Tensor, Tensor]]:
    """Keys and values [B, H, K, D] of each layer."""
    return [(layer.keys, layer.values) for layer in started.cache.layers]  # type: ignore[union-attr,misc]


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, **others: Any
) -> tuple[Tensor, None]:
    """Attention to all that was written, the last token included, which is written first."""
    keys, values, place = module.written
    keys.index_copy_(2, place, key)
    values.index_copy_(2, place, value)
    return dense_attention(module, query, keys, values, attention_mask, **others)


AttentionInterface.register(WRITING, _attention)


@contextmanager
def _writing(model: Any, layers: Sequence[tuple[Tensor, Tensor]], place: Tensor) -> Iterator[None]:
    """Within, each block writes keys and values at a place [1] of its own, and sees all of them.

    Blocks are compiled as a whole, once for all: they take no cache, which tells them apart.
    """
    blocks = list(blocks_of(model))
    for block, (keys, values) in zip(blocks, layers, strict=True):
        attention_of(block).written = keys, values, place
    try:
        with dense(model, Prefix(()), WRITING):
            yield
    finally:
        for block in blocks:
            del attention_of(block).written
