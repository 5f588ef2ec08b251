"""Interlat, lite: the sender's states, pooled to K, through attention and a projection.

The loss is the answer's cross-entropy less `separation` times the Jensen-Shannon divergence between
the receiver's answers under a row's own message and under that of another row of the batch, one
with another target. The pull towards the receiver that reads text is `train.distillation`.

Deviations: the receiver is frozen, where the original trains it; the K states are means over equal
stretches of the sender's prompt, where the original takes all of a plan that it wrote, or trains a
second model to write K; mismatched messages come from the same task; no curriculum from text to
states, no tokens that mark where a message begins and ends, no dropout, and a linear projection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lwspec.engine.arm import ArmDeclaration, Need
from lwspec.engine.fields import Frozen, Positive
from lwspec.errors import ModelError
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.prompts import present_soft

if TYPE_CHECKING:
    from torch import Tensor, nn


class Settings(Frozen):
    """What a spec may set in `interlat = { ... }`."""

    layer: Annotated[int, Field(ge=0)]
    """The sender's layer whose output is read: 0 is the embeddings."""
    tokens: Positive = 8
    """Soft tokens, K."""
    heads: Positive = 8
    """Of its attention; they divide the sender's width."""
    separation: Annotated[float, Field(ge=0)] = 0.1
    """What it is worth, beside the answer's loss, that another row's message changes the answer."""


def needs(settings: Settings) -> tuple[Need, ...]:
    """The sender's states at one layer."""
    return (Need("states", {"layer": settings.layer}),)


def parameters(settings: Settings, sender_width: int, receiver_width: int) -> int:
    """Weights and biases of both norms, the attention and the projection, and the scale."""
    attention = 4 * sender_width * sender_width + 4 * sender_width
    return 4 * sender_width + attention + (sender_width + 1) * receiver_width + 1


def separation(settings: Settings) -> float:
    """The weight of the divergence."""
    return settings.separation


def build(setup: Setup) -> nn.Module:
    """The adapter. Raises ModelError where the heads do not divide the sender's width."""
    from lwspec.kernels.methods.interlat import Adapter

    assert setup.reader is not None and setup.sender_width is not None
    heads: int = setup.settings.heads
    if setup.sender_width % heads:
        raise ModelError(
            f"the sender's width {setup.sender_width} is no multiple of {heads} heads",
            remedy="set interlat.heads to a divisor of it",
        )
    reader = setup.reader
    made = Adapter(setup.sender_width, reader.width, heads=heads, rms=reader.embedding_rms)
    return made.to(reader.device)


def inputs(setup: Setup, batch: Batch) -> Sequence[Tensor]:
    """The means of K stretches of each row's states: [rows, K, sender_width]."""
    from lwspec.kernels.models.pool import pooled_inputs

    return pooled_inputs(setup, batch)


ARM = Arm(
    ArmDeclaration(
        name="interlat",
        version=1,
        regime="private",
        settings=Settings,
        needs=needs,
        reads=("query", "answer"),
        models=("receiver",),
        tokens="tokens",
        soft=True,
        trained=True,
        epochs=True,
        separation=separation,
        seeded=True,
        parameters=parameters,
    ),
    build=build,
    inputs=inputs,
    present=present_soft,
)
