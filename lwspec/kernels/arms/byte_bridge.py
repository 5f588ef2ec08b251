"""The byte-encoder system: soft tokens from the text's bytes, with no sender model at all.

Also the control of the bridge's claim: whatever it reaches was not read by a sender. Deviations
from the LatentWire original: one receiver, and the answer's cross-entropy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from pydantic import model_validator

from lwspec.engine.arm import ArmDeclaration
from lwspec.engine.fields import Frozen, Positive
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.prompts import present_soft

if TYPE_CHECKING:
    from torch import Tensor, nn


class Settings(Frozen):
    """What a spec may set in `byte_bridge = { ... }`."""

    latents: Positive = 8
    """Soft tokens, M."""
    width: Positive = 256
    """Of its blocks."""
    depth: Positive = 6
    """How many blocks it has."""
    heads: Positive = 8
    """Of its attention; they divide the width."""
    max_bytes: Positive = 512
    """A text is cut to its first bytes, of this number."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self


def parameters(settings: Settings, sender_width: int, receiver_width: int) -> int:
    """Weights and biases of the encoder."""
    width = settings.width
    layer = 4 * width * width + 4 * width + 8 * width * width + 5 * width + 4 * width
    ends = (257 + settings.max_bytes) * width + (width + 1) * receiver_width + 1
    return settings.depth * layer + ends


def build(setup: Setup) -> nn.Module:
    """The encoder, its output scaled to the receiver's embeddings."""
    from lwspec.kernels.methods.byte_encoder import ByteEncoder

    assert setup.reader is not None
    settings: Settings = setup.settings
    return ByteEncoder(
        setup.reader.width,
        width=settings.width,
        latents=settings.latents,
        depth=settings.depth,
        heads=settings.heads,
        max_bytes=settings.max_bytes,
        rms=setup.reader.embedding_rms,
    ).to(setup.reader.device)


def inputs(setup: Setup, batch: Batch) -> Sequence[Tensor]:
    """The texts' bytes, from which the encoder makes soft tokens in float32."""
    from lwspec.kernels.methods.byte_encoder import as_bytes
    from lwspec.kernels.models.reader import to_device

    assert setup.reader is not None
    given = as_bytes(list(batch.contexts), setup.settings.max_bytes)
    return [to_device(given, setup.reader.device)]


ARM = Arm(
    ArmDeclaration(
        name="byte_bridge",
        version=1,
        regime="private",
        settings=Settings,
        reads=("query", "answer"),
        models=("receiver",),
        tokens="latents",
        soft=True,
        trained=True,
        epochs=True,
        seeded=True,
        parameters=parameters,
    ),
    build=build,
    inputs=inputs,
    present=present_soft,
)
