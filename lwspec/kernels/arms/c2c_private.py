"""Cache-to-Cache whose receiver never sees the context: an adaptation, published by nobody.

As in `c2c`, but the sharer reads its own prompt around the context, and the receiver reads in its
place as many tokens of no content, the end-of-text token over and over, before its query: what it
knows of the context is fused into the keys and values of those. Deviations: the whole of it, beside
those of c2c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from lwspec.engine.arm import ArmDeclaration
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.arms.c2c import Settings, build, parameters, send, vectors
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Message, Prompt
from lwspec.kernels.prompts import prompt_ids

if TYPE_CHECKING:
    from torch import Tensor

    from lwspec.kernels.methods.cache_fusion import CacheFusion


def message(setup: Setup, batch: Batch) -> Message:
    """The sharer's keys and values [layers, 2, tokens, key_width] of its prompt."""
    assert setup.reader is not None
    return send(setup, prompt_ids(setup.reader, "sender_prompt", setup, batch))


def present(setup: Setup, message: Tensor, seen: Seen) -> Prompt:
    """[BOS][placeholders] with the message fused in, and the query."""
    from lwspec.kernels.methods.cache_fusion import fuse

    assert setup.reader is not None
    reader = setup.reader
    query = reader.encode(seen.fill(setup.task["query"]))[len(reader.bos) :]
    placeholders = [reader.eos] * (message.shape[2] - len(reader.bos))
    fusion = cast("CacheFusion", setup.module)
    return [fuse(fusion, reader, message, [*reader.bos, *placeholders]), query]


ARM = Arm(
    ArmDeclaration(
        name="c2c_private",
        version=1,
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
    present=present,
)
