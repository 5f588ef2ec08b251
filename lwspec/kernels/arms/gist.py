"""Gist tokens: the receiver learns to read a text into k tokens, which alone it sees afterwards.

One model with adapters reads [the sender's prompt][k gist tokens], then the query, whose tokens see
the gist tokens and nothing before them (Mu et al. 2023; github.com/jayelm/gisting, commit
3be0d06). That mask leaves of the first part what every layer keeps of the gist tokens: their keys
and values are the message. All gist tokens have one embedding, which begins as the mean of the
vocabulary's, as there. So that the query's positions follow the gist tokens' without the text's
length being sent, the gist tokens begin at position 0 and texts lie at negative ones; rotary
positions count distances alone.
Deviations: adapters of rank 64 in place of full fine-tuning. gist_positive and gist_negative are
the paper's controls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lwspec.engine.arm import ArmDeclaration
from lwspec.engine.fields import Positive
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.arms import lora
from lwspec.kernels.arms.xcompressor import vectors
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Prompt
from lwspec.kernels.prompts import query_ids, sender_ids

if TYPE_CHECKING:
    from torch import Tensor, nn


class Settings(lora.Settings):
    """What a spec may set in `gist = { ... }`."""

    rank: Positive = 64
    """Of the adapter's matrices."""
    alpha: Positive = 32
    """By which, over the rank, the adapter's part is scaled."""
    tokens: Positive = 8
    """Gist tokens, k."""


def parameters(settings: Settings, sender_width: int, receiver_width: int) -> int:
    """The gist tokens' embedding; how many the adapters have depends on more than the width."""
    return receiver_width


def build(setup: Setup) -> nn.Module:
    """The receiver's adapters and the gist tokens' embedding.

    Raises ModelError where no layer has a target's name, or positions are not rotary.
    """
    from functools import partial

    from lwspec.errors import ModelError
    from lwspec.kernels.methods.memory import Memory, last_keys_values
    from lwspec.kernels.models.adapters import add_adapters

    reader, settings = setup.reader, setup.settings
    assert reader is not None
    if not reader.rotary:
        raise ModelError(
            f"{type(reader.model).__name__} has no rotary positions, which may be negative",
            remedy="choose another receiver, or another arm",
        )
    mean = reader.embedding.weight.detach().float().mean(0, keepdim=True)
    carrier = partial(last_keys_values, ends=settings.tokens)
    adapters = add_adapters(reader, "gist", settings)
    return Memory(reader, carrier, adapters, mean, settings.tokens)


def inputs(setup: Setup, batch: Batch) -> Sequence[Tensor]:
    """The sender's prompts, as the receiver's tokens."""
    from lwspec.kernels.methods.memory import side_by_side

    return [side_by_side(sender_ids(replace(setup, sender=setup.reader), batch))]


def present(setup: Setup, message: Tensor, seen: Seen) -> Prompt:
    """[keys and values of the gist tokens][query]."""
    from lwspec.kernels.methods.memory import handed_over

    assert setup.reader is not None
    return [handed_over(setup.reader, message), query_ids(setup, seen)]


ARM = Arm(
    ArmDeclaration(
        name="gist",
        version=1,
        regime="private",
        settings=Settings,
        reads=("sender_prompt", "query", "answer", "max_prompt_tokens"),
        models=("receiver",),
        tokens="tokens",
        soft=True,
        trained=True,
        epochs=True,
        own=("receiver",),
        pair="same_model",
        vectors=vectors,
        seeded=True,
        parameters=parameters,
    ),
    build=build,
    inputs=inputs,
    present=present,
)
