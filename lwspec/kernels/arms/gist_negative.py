"""The negative control of gist: the query sees neither the gist tokens nor the text.

What is left is the query alone, read by the receiver with adapters: what these learn of the
answers without any message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lwspec.engine.arm import ArmDeclaration
from lwspec.engine.fields import Positive
from lwspec.kernels.arm import Arm, Setup
from lwspec.kernels.arms import lora
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Prompt
from lwspec.kernels.prompts import query_ids

if TYPE_CHECKING:
    from torch import nn


class Settings(lora.Settings):
    """What a spec may set in `gist_negative = { ... }`."""

    rank: Positive = 64
    """Of the adapter's matrices."""
    alpha: Positive = 32
    """By which, over the rank, the adapter's part is scaled."""


def build(setup: Setup) -> nn.Module:
    """The receiver's adapters. Raises ModelError where no layer has a target's name."""
    from lwspec.kernels.models.adapters import add_adapters

    assert setup.reader is not None
    return add_adapters(setup.reader, "gist_negative", setup.settings)


def present(setup: Setup, message: None, seen: Seen) -> Prompt:
    """[query], without a beginning-of-text token."""
    return [query_ids(setup, seen)]


ARM = Arm(
    ArmDeclaration(
        name="gist_negative",
        version=1,
        regime="reference",
        settings=Settings,
        reads=("query", "answer"),
        models=("receiver",),
        trained=True,
        epochs=True,
        own=("receiver",),
        seeded=True,
    ),
    build=build,
    present=present,
)
