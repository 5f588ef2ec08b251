"""A link between two spaces: M pooled states through a small MLP beside a linear map.

The means over M equal stretches of the sender's states become M soft tokens (xRAG, which sends one,
and the outer link of RecursiveMAS). The linear map begins as a ridge regression of the receiver's
embeddings on the sender's states, over strings that are one token in both vocabularies. The
receiver that reads the text is distilled with `train.distillation = 2.0`, as in xRAG.

Deviations: one stage of training, on the task alone, without xRAG's paraphrase pretraining; the
states are the sender's own, and no retriever's; no recursion and no norm behind the map; the MLP
begins at zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lwspec.engine.arm import ArmDeclaration, Need
from lwspec.engine.fields import Frozen, Positive
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.prompts import present_soft

if TYPE_CHECKING:
    from torch import Tensor, nn


class Settings(Frozen):
    """What a spec may set in `link = { ... }`."""

    layer: Annotated[int, Field(ge=0)]
    """The sender's layer whose output is read: 0 is the embeddings."""
    tokens: Positive = 8
    """Soft tokens, M."""
    anchors: Positive = 300
    """The fewest strings that the regression is fitted to; it takes up to 4096."""


def needs(settings: Settings) -> tuple[Need, ...]:
    """The sender's states at one layer."""
    return (Need("states", {"layer": settings.layer}),)


def parameters(settings: Settings, sender_width: int, receiver_width: int) -> int:
    """Weights and biases of the norm, the MLP and the linear map."""
    enter = (sender_width + 1) * 2 * receiver_width
    leave = (2 * receiver_width + 1) * receiver_width
    return 2 * sender_width + enter + leave + (sender_width + 1) * receiver_width


def build(setup: Setup) -> nn.Module:
    """The link, as the regression begins it, or with the weights of its fit.

    Raises ModelError for vocabularies without anchors.
    """
    from lwspec.kernels.methods.link import Link, initial_map

    assert setup.reader is not None and setup.sender is not None
    settings: Settings = setup.settings
    if setup.weights:  # all of which are loaded: no anchors are read for nothing
        found = setup.weights["skip.weight"], setup.weights["skip.bias"]
    else:
        found = initial_map(setup.sender, setup.reader, settings.layer, settings.anchors)
    return Link(*found).to(setup.reader.device)


def inputs(setup: Setup, batch: Batch) -> Sequence[Tensor]:
    """The means of M stretches of each row's states: [rows, M, sender_width]."""
    from lwspec.kernels.models.pool import pooled_inputs

    return pooled_inputs(setup, batch)


ARM = Arm(
    ArmDeclaration(
        name="link",
        version=1,
        regime="private",
        settings=Settings,
        needs=needs,
        reads=("query", "answer"),
        models=("receiver", "sender"),
        tokens="tokens",
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
