"""ICAE: the sender reads into memory slots, which the receiver takes as soft tokens.

A copy of the sender with adapters reads [its prompt][M memory tokens]; the last layer's states of
the memory tokens are the slots, and the frozen receiver runs on [BOS][slots][query] (Ge et al.
2024; github.com/getao/icae, commit 469a468, icae_v2). Memory embeddings begin as N(0, 1), as
there. Deviations: autoencoding is a term beside the answer's cross-entropy and not a phase before
it; no pretraining on other texts; a text is one segment; no dropout, so that a fit is resumed bit
by bit; no token marks the end of the slots; rank 64; between models of two widths, a linear map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field

from lwspec.engine.arm import ArmDeclaration
from lwspec.engine.fields import Positive
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.arms import lora
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Message, Prompt
from lwspec.kernels.prompts import sender_ids, soft_prompt, tasks_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lwspec.kernels.methods.memory import Memory


class Reading(lora.Settings):
    """The sender's adapters, its memory, and the autoencoding beside the answer."""

    rank: Positive = 64
    """Of the adapter's matrices."""
    alpha: Positive = 32
    """By which, over the rank, the adapter's part is scaled."""
    tokens: Positive = 8
    """Memory tokens, M."""
    autoencoding: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the cross-entropy of the text, said again from the message; 0 leaves it out."""


class Settings(Reading):
    """What a spec may set in `icae = { ... }`."""

    linear: bool = False
    """Whether a trained linear map takes slots to the receiver's width: for pairs of two models."""


def parameters(settings: Settings, sender_width: int, receiver_width: int) -> int:
    """Those beside the adapters, whose number depends on more than the widths."""
    linear = (sender_width + 1) * receiver_width if settings.linear else 0
    again = receiver_width if settings.autoencoding else 0
    return settings.tokens * sender_width + linear + again


def build(setup: Setup) -> nn.Module:
    """The sender's adapters and memory.

    Raises ModelError where no layer has a target's name, or slots do not fit the receiver.
    """
    import torch
    from torch import nn

    from lwspec.errors import ModelError
    from lwspec.kernels.methods.memory import Memory
    from lwspec.kernels.models.adapters import add_adapters
    from lwspec.kernels.models.hidden import last_states

    sender, receiver, settings = setup.sender, setup.reader, setup.settings
    assert sender is not None and receiver is not None
    if sender.width != receiver.width and not settings.linear:
        raise ModelError(
            f"slots of width {sender.width} are handed to a receiver of width {receiver.width}",
            remedy="set icae.linear = true, or take one model as sender and receiver",
        )
    linear = None
    if settings.linear:
        linear = nn.Linear(sender.width, receiver.width).to(receiver.device)
    return Memory(
        sender,
        last_states,
        add_adapters(sender, "icae", settings),
        torch.randn(settings.tokens, sender.width),
        settings.tokens,
        linear=linear,
        again=torch.randn(1, receiver.width) if settings.autoencoding else None,
    )


def inputs(setup: Setup, batch: Batch) -> Sequence[Tensor]:
    """The sender's prompts, and for autoencoding the receiver's tokens of the texts."""
    from lwspec.kernels.methods.memory import side_by_side

    read = side_by_side(sender_ids(setup, batch))
    if not setup.settings.autoencoding:
        return [read]
    assert setup.reader is not None
    bos = len(setup.reader.bos)
    texts = [
        setup.reader.encode(context, task["max_prompt_tokens"])[bos:]
        for context, task in zip(batch.contexts, tasks_of(setup, batch), strict=True)
    ]
    return [read, side_by_side(texts)]


def present(setup: Setup, message: Tensor, seen: Seen) -> Prompt:
    """[BOS][slots][query]."""
    return soft_prompt(setup, message, seen, "message_query")


def loss(setup: Setup, messages: Message) -> Tensor:
    """Autoencoding from [slots][a learnt token that asks for it]."""
    from lwspec.kernels.methods.memory import autoencoding

    slots, weight = cast("Sequence[Tensor]", messages), setup.settings.autoencoding
    if not weight:
        return slots[0].new_zeros(())
    assert setup.reader is not None
    memory = cast("Memory", setup.module)
    return cast("float", weight) * autoencoding(setup.reader, memory, [[one] for one in slots])


ARM = Arm(
    ArmDeclaration(
        name="icae",
        version=1,
        regime="private",
        settings=Settings,
        reads=("sender_prompt", "query", "answer", "max_prompt_tokens"),
        models=("sender", "receiver"),
        tokens="tokens",
        soft=True,
        trained=True,
        epochs=True,
        own=("sender",),
        seeded=True,
        parameters=parameters,
    ),
    build=build,
    inputs=inputs,
    present=present,
    loss=loss,
)
