"""Cache-to-Cache whose receiver never sees the context: an adaptation, published by nobody.

As in `c2c`, but the sharer reads its own prompt around the context, and the receiver reads in its
place as many tokens of no content, the end-of-text token over and over, before its query: what it
knows of the context is fused into the keys and values of those. Deviations: the whole of it, beside
those of c2c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from lwspec.engine.arm import ArmDeclaration
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.arms.c2c import Settings, build, parameters, send, vectors
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Message, Prompt
from lwspec.kernels.prompts import prompt_ids, query_ids

if TYPE_CHECKING:
    from torch import Tensor

    from lwspec.kernels.methods.cache_fusion import CacheFusion


def message(setup: Setup, batch: Batch) -> Message:
    """The sharer's keys and values [layers, 2, tokens, key_width] of its prompt."""
    assert setup.reader is not None
    return send(setup, prompt_ids(setup.reader, "sender_prompt", setup, batch))


def present_all(setup: Setup, messages: Sequence[Tensor], seen: Sequence[Seen]) -> list[Prompt]:
    """[BOS][placeholders] with the message fused in, and the query."""
    from lwspec.kernels.methods.cache_fusion import fuse

    assert setup.reader is not None
    reader, start = setup.reader, setup.reader.bos
    places = [[*start, *[reader.eos] * (one.shape[2] - len(start))] for one in messages]
    fused = fuse(cast("CacheFusion", setup.module), reader, messages, places)
    return [[cached, query_ids(setup, row)] for cached, row in zip(fused, seen, strict=True)]


ARM = Arm(
    ArmDeclaration(
        name="c2c_private",
        version=2,
        regime="private",
        settings=Settings,
        reads=("sender_prompt", "query", "answer", "max_prompt_tokens"),
        models=("sender", "receiver"),
        soft=True,
        vectors=vectors,
        trained=True,
        epochs=True,
        seeded=True,
        weights=parameters,
    ),
    build=build,
    message=message,
    present_all=present_all,
)
