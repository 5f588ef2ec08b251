"""A random orthogonal map of the sender's pooled state: what does an untrained bridge convey?

Mean-pooled states, M copies, scaled to the receiver's embeddings: the training-free baseline of the
LatentWire experiments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lwspec.engine.arm import ArmDeclaration, Need
from lwspec.engine.fields import Frozen, Positive
from lwspec.kernels.arm import Arm, Batch, Setup, Solved
from lwspec.kernels.prompts import present_soft

if TYPE_CHECKING:
    from torch import Tensor


class Settings(Frozen):
    """What a spec may set in `random_map = { ... }`."""

    layer: Annotated[int, Field(ge=0)]
    """The sender's layer whose output is read: 0 is the embeddings."""
    tokens: Positive = 8
    """Copies of the one vector, M."""
    pooling: Literal["last", "mean"] = "mean"
    """How a text's states become one vector."""


def needs(settings: Settings) -> tuple[Need, ...]:
    """The sender's pooled states."""
    return (Need("pooled", {"pooling": settings.pooling}),)


def solve(setup: Setup, batch: Batch, labels: Sequence[int], num_labels: int) -> Solved:
    """Draw the map [receiver_width, sender_width]; the rows are not looked at."""
    import torch

    assert setup.reader is not None and setup.sender_width is not None
    drawn = torch.empty(setup.reader.width, setup.sender_width)
    return Solved({"map": torch.nn.init.orthogonal_(drawn)}, {})


def message(setup: Setup, batch: Batch) -> Sequence[Tensor]:
    """M copies of the mapped state, each [tokens, receiver_width]."""
    from lwspec.kernels.models.pool import repeat_at_rms

    assert setup.reader is not None and batch.pooled is not None
    mapped = batch.pooled @ setup.weights["map"].T
    return repeat_at_rms(mapped, setup.settings.tokens, setup.reader.embedding_rms)


ARM = Arm(
    ArmDeclaration(
        name="random_map",
        version=1,
        regime="private",
        settings=Settings,
        needs=needs,
        reads=("query", "answer"),
        models=("receiver",),
        tokens="tokens",
        soft=True,
        trained=True,
        seeded=True,
    ),
    solve=solve,
    message=message,
    present=present_soft,
)
