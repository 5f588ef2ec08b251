"""Activation communication: the sender's last state in the place of the receiver's (AC).

The state of the last token of the sender's prompt after `layer` blocks is mapped to the receiver's
width and takes the place of the state of the query's last token after `into` blocks (Ramesh and Li
2025). The map is a ridge regression of the receiver's state, where it reads the text itself, on the
sender's.

Deviations: the map is fitted in closed form to the task's training texts in both models' own
prompts, not by gradient steps to generic sentences; the map has an offset; the receiver never sees
the text, as in the original's games.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lwspec.engine.arm import ArmDeclaration, Need, Role
from lwspec.engine.fields import Frozen
from lwspec.engine.shapes import Shape
from lwspec.kernels.arm import Arm, Batch, Setup, Solved
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Graft, Prompt

if TYPE_CHECKING:
    from torch import Tensor


class Settings(Frozen):
    """What a spec may set in `graft = { ... }`."""

    layer: Annotated[int, Field(ge=0)]
    """The sender's layer whose output is read: 0 is the embeddings."""
    into: Annotated[int, Field(ge=0)]
    """The receiver's layer whose output is changed: 0 is the embeddings."""
    share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """How much of the changed state comes from the sender: all, or none for the receiver alone."""


def needs(settings: Settings) -> tuple[Need, ...]:
    """The sender's state of its last token."""
    return (Need("pooled", {"pooling": "last"}),)


def vectors(settings: Settings, shapes: Mapping[Role, Shape], tokens: int) -> tuple[int, int]:
    """One state of the receiver's width."""
    return 1, shapes["receiver"].width


def parameters(settings: Settings, sender_width: int, receiver_width: int) -> int:
    """The map and its offset."""
    return (sender_width + 1) * receiver_width


def solve(setup: Setup, batch: Batch, labels: Sequence[int], num_labels: int) -> Solved:
    """The map [receiver_width, sender_width] and its offset, fitted to nine rows in ten.

    Measured by the mean cosine with the receiver's own states on the others.
    """
    from torch.nn import functional

    from lwspec.kernels.methods.ridge import ridge
    from lwspec.kernels.methods.taught import held_out, receiver_states

    assert batch.pooled is not None
    states = receiver_states(setup, batch, setup.settings.into, "last")
    given = batch.pooled.to(states)
    held = held_out(len(given), given.device)
    weights, offset = ridge(given[~held], states[~held])
    mapped = given[held] @ weights.T + offset
    cosine = functional.cosine_similarity(mapped, states[held]).mean()
    return Solved({"map": weights.cpu(), "offset": offset.cpu()}, {"cosine": float(cosine)})


def message(setup: Setup, batch: Batch) -> Sequence[Tensor]:
    """The mapped state of each row: [1, receiver_width]."""
    assert batch.pooled is not None
    return list((batch.pooled @ setup.weights["map"].T + setup.weights["offset"])[:, None])


def present(setup: Setup, message: Tensor, seen: Seen) -> Prompt:
    """[BOS][query], its last token's state replaced; the query alone where nothing came."""
    assert setup.reader is not None
    settings: Settings = setup.settings
    ids = setup.reader.encode(seen.fill(setup.task["query"]))
    return [ids, Graft((settings.into,), message, settings.share)] if len(message) else [ids]


ARM = Arm(
    ArmDeclaration(
        name="graft",
        version=1,
        regime="private",
        settings=Settings,
        needs=needs,
        reads=("query", "receiver_prompt", "answer", "max_prompt_tokens"),
        models=("receiver",),
        vectors=vectors,
        soft=True,
        trained=True,
        learns_answers=False,
        passes=lambda settings: 1,
        parameters=parameters,
    ),
    solve=solve,
    message=message,
    present=present,
)
