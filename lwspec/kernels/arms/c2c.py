"""Cache-to-Cache (Fu et al. 2025, arXiv 2510.03215), as published: both models read the context.

The sharer reads the receiver's prompt in its own tokens, one for each of the receiver's, and sends
its keys and values. At every layer of the receiver, the last paired with the last of the sharer, a
projector with gates fuses them into the receiver's own keys and values of all tokens but the last,
on which the receiver then runs. As long as no gate has opened, it answers as if it read alone.
Deviations: trained on the task's own rows, not on a general corpus; no chat template, so that all
tokens are realigned and fused; the projector's weights are float32; of a pair whose sharer has
fewer layers, its first layer is sent once, though several of the receiver's take it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field

from lwspec.engine.arm import ArmDeclaration, Role
from lwspec.engine.fields import Frozen, Positive
from lwspec.engine.shapes import Shape
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Message, Prompt
from lwspec.kernels.prompts import prompt_ids, text_prompt

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lwspec.kernels.methods.cache_fusion import CacheFusion


class Settings(Frozen):
    """What a spec may set in `c2c = { ... }` and in `c2c_private = { ... }`."""

    anneal_steps: Positive
    """Steps in which the gates' temperature falls from 1 to 0.001: those of the whole fit."""
    width: Positive = 1024
    """Of its hidden layers."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """In training."""


def parameters(settings: Settings, shapes: Mapping[Role, Shape]) -> int:
    """Weights and biases of a projector and its gate, for keys and values of every layer."""
    sender, receiver, width = shapes["sender"], shapes["receiver"], settings.width
    enter = (sender.key_width + receiver.key_width + 1) * width
    blocks = 3 * (width + 2 * width * width)
    leave = (width + 1) * (receiver.key_width + receiver.key_heads)
    return 2 * receiver.layers * (enter + blocks + leave + 1)


def vectors(settings: Settings, shapes: Mapping[Role, Shape], tokens: int) -> tuple[int, int]:
    """Keys and values of each token at each layer that is sent, of all heads."""
    layers = min(shapes["sender"].layers, shapes["receiver"].layers)
    return 2 * layers * tokens, shapes["sender"].key_width


def build(setup: Setup) -> nn.Module:
    """The projectors and their gates, which are shut at first."""
    from lwspec.kernels.methods.cache_fusion import fusion_between

    assert setup.reader is not None and setup.sender is not None
    settings: Settings = setup.settings
    return fusion_between(
        setup.sender,
        setup.reader,
        width=settings.width,
        dropout=settings.dropout,
        anneal_steps=settings.anneal_steps,
    )


def send(setup: Setup, prompts: Sequence[Sequence[int]]) -> Message:
    """The sharer's keys and values of prompts in the receiver's tokens; a step, in training."""
    from lwspec.kernels.methods.cache_fusion import shared

    assert setup.reader is not None and setup.sender is not None
    fusion = cast("CacheFusion", setup.module)
    if fusion.training:
        fusion.begin_step()
    return shared(setup.sender, setup.reader, prompts)


def message(setup: Setup, batch: Batch) -> Message:
    """The sharer's keys and values [layers, 2, tokens, key_width] of what is fused."""
    assert setup.reader is not None
    read = prompt_ids(setup.reader, "receiver_prompt", setup, batch)
    return send(setup, [ids[:-1] for ids in read])


def present_all(setup: Setup, messages: Sequence[Tensor], seen: Sequence[Seen]) -> list[Prompt]:
    """The receiver's prompts, read but for their last tokens, with the messages fused in."""
    from lwspec.kernels.methods.cache_fusion import fuse

    assert setup.reader is not None
    prompts = [text_prompt(setup, "receiver_prompt", row)[0] for row in seen]
    read = cast("Sequence[Sequence[int]]", prompts)
    fusion = cast("CacheFusion", setup.module)
    fused = fuse(fusion, setup.reader, messages, [ids[:-1] for ids in read])
    return [[cached, ids[-1:]] for cached, ids in zip(fused, read, strict=True)]


ARM = Arm(
    ArmDeclaration(
        name="c2c",
        version=2,
        regime="shared",
        settings=Settings,
        reads=("receiver_prompt", "answer", "max_prompt_tokens"),
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
