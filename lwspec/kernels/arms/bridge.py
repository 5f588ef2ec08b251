"""The LatentWire bridge: a perceiver turns the sender's hidden states into M soft tokens.

The receiver runs on [BOS][query][soft tokens] and answers. Loss: cross-entropy of the answer and
its end token, plus `diversity` times the mean cosine between messages of one batch (recipe V4 of
LatentWire, apr16/telepathy/train_telepathy.py). Deviations: the width is a setting, the bridge's
weights are float32, and the beginning-of-text token is kept unless `bos` says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, Self, cast

from pydantic import Field, model_validator

from lwspec.engine.arm import ArmDeclaration, Need
from lwspec.engine.fields import Frozen, Positive
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Message, Prompt
from lwspec.kernels.prompts import Bos, Layout, soft_prompt

if TYPE_CHECKING:
    from torch import Tensor, nn


class Settings(Frozen):
    """What a spec may set in `bridge = { ... }`."""

    layer: Annotated[int, Field(ge=0)]
    """The sender's layer whose output is read: 0 is the embeddings."""
    latents: Positive = 8
    """Soft tokens, M."""
    width: Positive = 512
    """Of its blocks."""
    depth: Positive = 2
    """How many blocks it has."""
    heads: Positive = 8
    """Of its attention; they divide the width."""
    diversity: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the mean cosine between the messages of one batch, beside the answer's loss."""
    calibration: Literal["learned", "fixed", "example"] = "learned"
    """Each soft token leaves with a learned root mean square, with that of the receiver's
    embeddings, or each message as a whole with that of the receiver's embeddings."""
    layout: Layout = "query_message"
    """Where the soft tokens stand beside the query."""
    bos: Bos = "first"
    """Where the receiver's beginning-of-text token stands."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self


def needs(settings: Settings) -> tuple[Need, ...]:
    """The sender's states at one layer."""
    return (Need("states", {"layer": settings.layer}),)


def parameters(settings: Settings, sender_width: int, receiver_width: int) -> int:
    """Weights and biases of the perceiver."""
    width = settings.width
    attention = 4 * width * width + 4 * width
    feed = 8 * width * width + 5 * width
    block = 2 * attention + feed + 6 * width
    enter = 0 if sender_width == width else (sender_width + 1) * width
    leave = 0 if receiver_width == width else (width + 1) * receiver_width
    scale = 1 if settings.calibration == "learned" else 0
    return settings.latents * width + settings.depth * block + enter + leave + scale


def build(setup: Setup) -> nn.Module:
    """The perceiver, its output scaled to the receiver's embeddings."""
    from lwspec.kernels.methods.perceiver import Perceiver

    assert setup.reader is not None and setup.sender_width is not None
    settings: Settings = setup.settings
    return Perceiver(
        setup.sender_width,
        setup.reader.width,
        width=settings.width,
        latents=settings.latents,
        depth=settings.depth,
        heads=settings.heads,
        rms=setup.reader.embedding_rms,
        calibration=settings.calibration,
    ).to(setup.reader.device)


def inputs(setup: Setup, batch: Batch) -> Sequence[Tensor]:
    """The sender's states side by side, from which the perceiver makes soft tokens in float32."""
    from lwspec.kernels.methods.perceiver import pad_states

    assert setup.reader is not None and batch.states is not None
    return pad_states(batch.states, setup.reader.device)


def present(setup: Setup, message: Tensor, seen: Seen) -> Prompt:
    """[BOS][query][soft tokens], or as the settings say."""
    settings: Settings = setup.settings
    return soft_prompt(setup, message, seen, settings.layout, settings.bos)


def loss(setup: Setup, messages: Message) -> Tensor:
    """The diversity term."""
    import torch

    from lwspec.kernels.methods.perceiver import batch_similarity

    stacked = torch.stack(list(cast("Sequence[Tensor]", messages)))
    return cast("float", setup.settings.diversity) * batch_similarity(stacked)


ARM = Arm(
    ArmDeclaration(
        name="bridge",
        version=1,
        regime="private",
        settings=Settings,
        needs=needs,
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
    present=present,
    loss=loss,
)
