"""A ridge regression from the sender's pooled state to the label's embedding in the receiver.

The last token's state is regressed on the mean receiver embedding of the label's answer, M copies
are handed over, scaled to the receiver's embeddings (the ridge baseline of the LatentWire
experiments). A penalty is chosen by leave-one-out error (scikit-learn's RidgeCV).
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
    """What a spec may set in `ridge_map = { ... }`."""

    layer: Annotated[int, Field(ge=0)]
    """The sender's layer whose output is read: 0 is the embeddings."""
    tokens: Positive = 8
    """Copies of the one vector, M."""
    pooling: Literal["last", "mean"] = "last"
    """How a text's states become one vector."""
    penalties: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...], Field(strict=False, min_length=1)
    ] = (0.1, 1.0, 10.0, 100.0)
    """Among which the error of leaving out one row at a time chooses."""


def needs(settings: Settings) -> tuple[Need, ...]:
    """The sender's pooled states."""
    return (Need("pooled", {"pooling": settings.pooling}),)


def solve(setup: Setup, batch: Batch, labels: Sequence[int], num_labels: int) -> Solved:
    """The regression's map [receiver_width, sender_width] and offset [receiver_width]."""
    import torch
    from sklearn.linear_model import RidgeCV

    from lwspec.kernels.setup import answers_of

    assert setup.reader is not None and batch.pooled is not None
    reader = setup.reader
    answers = [reader.embed(ids).float().mean(0).cpu() for ids in answers_of(setup).label_ids()]
    targets = torch.stack(answers)[list(labels)]
    ridge = RidgeCV(alphas=list(setup.settings.penalties))
    ridge.fit(batch.pooled.double().numpy(), targets.double().numpy())
    return Solved(
        {
            "map": torch.from_numpy(ridge.coef_).float(),
            "offset": torch.from_numpy(ridge.intercept_).float(),
        },
        {"penalty": float(ridge.alpha_)},
    )


def message(setup: Setup, batch: Batch) -> Sequence[Tensor]:
    """M copies of the mapped state, each [tokens, receiver_width]."""
    from lwspec.kernels.models.pool import repeat_at_rms

    assert setup.reader is not None and batch.pooled is not None
    mapped = batch.pooled @ setup.weights["map"].T + setup.weights["offset"]
    return repeat_at_rms(mapped, setup.settings.tokens, setup.reader.embedding_rms)


ARM = Arm(
    ArmDeclaration(
        name="ridge_map",
        version=1,
        generates=False,
        regime="private",
        settings=Settings,
        needs=needs,
        reads=("query", "answer"),
        models=("receiver",),
        tokens="tokens",
        soft=True,
        trained=True,
    ),
    solve=solve,
    message=message,
    present=present_soft,
)
