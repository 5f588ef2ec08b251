"""LoRA on the receiver, which reads the whole text itself (Hu et al. 2021), by the peft library.

Rank 8, alpha 16 on the query and value projections, as in the LatentWire baselines. Deviations: the
answer's cross-entropy alone is trained, not the whole prompt's, and there is no dropout, so that a
fit is resumed bit by bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lwspec.engine.arm import ArmDeclaration
from lwspec.engine.fields import Frozen, Positive
from lwspec.kernels.arm import Arm, Setup
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Prompt
from lwspec.kernels.prompts import text_prompt

if TYPE_CHECKING:
    from torch import nn


class Settings(Frozen):
    """What a spec may set in `lora = { ... }`."""

    rank: Positive = 8
    """Of the adapter's matrices."""
    alpha: Positive = 16
    """By which, over the rank, the adapter's part is scaled."""
    targets: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = ("q_proj", "v_proj")
    """Names of the receiver's linear layers that get an adapter."""


def build(setup: Setup) -> nn.Module:
    """Put adapters into the receiver and return their weights, which alone are trained and kept.

    Raises ModelError where the receiver has no layer of a target's name.
    """
    from lwspec.kernels.models.adapters import add_adapters

    assert setup.reader is not None
    return add_adapters(setup.reader, "lora", setup.settings)


def present(setup: Setup, message: None, seen: Seen) -> Prompt:
    """The receiver's prompt around the text."""
    return text_prompt(setup, "receiver_prompt", seen)


ARM = Arm(
    ArmDeclaration(
        name="lora",
        version=1,
        regime="reference",
        settings=Settings,
        reads=("receiver_prompt", "answer", "max_prompt_tokens"),
        models=("receiver",),
        trained=True,
        epochs=True,
        own=("receiver",),
        seeded=True,
    ),
    build=build,
    present=present,
)
