"""Vector translation: a state of the sender's, translated, blended into the receiver's last ones.

Translators of both directions are learnt together from states of the two models that read the same
text (Yang and Eshraghian 2025). One translated state is blended, by 0.3, into the states of the
query's last three tokens before each of the receiver's last three blocks. How well states are
translated stands in the fit's metrics, both ways; what the other way communicates is an experiment
with sender and receiver exchanged.

Deviations: learnt on the task's training texts in both models' own prompts, not on five prompts;
the receiver sees no part of the text; its states that are learnt are those before its last block
but one; all are standardised; what the paper leaves open is chosen in methods/translator.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lwspec.engine.arm import ArmDeclaration, Need, Role
from lwspec.engine.fields import Frozen
from lwspec.engine.shapes import Shape
from lwspec.kernels.arm import Arm, Batch, Setup, Solved
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Graft, Prompt

if TYPE_CHECKING:
    from torch import Tensor

INNER = 512
"""The translators' own width."""
LAST = 3
"""Blocks before which, and tokens into whose states, the translated state is blended."""


class Settings(Frozen):
    """What a spec may set in `vector_translation = { ... }`."""

    layer: Annotated[int, Field(ge=0)]
    """The sender's layer whose output is read: 0 is the embeddings."""
    pooling: Literal["last", "mean"] = "last"
    """Of both models' states over a prompt."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.3
    """How much of the blended states is the translated one: none for the receiver alone."""


def needs(settings: Settings) -> tuple[Need, ...]:
    """The sender's pooled states."""
    return (Need("pooled", {"pooling": settings.pooling}),)


def vectors(settings: Settings, shapes: Mapping[Role, Shape], tokens: int) -> tuple[int, int]:
    """One state of the receiver's width."""
    return 1, shapes["receiver"].width


def parameters(settings: Settings, sender_width: int, receiver_width: int) -> int:
    """Both translators, and the means and standard deviations of what they are given."""
    widths = sender_width + receiver_width
    each = (widths + 1) * INNER + 4 * INNER * INNER + 4 * INNER
    return 2 * each + widths + 2 * widths


def blended(setup: Setup) -> range:
    """The receiver's layers whose output is changed: the last three that a block follows."""
    from lwspec.kernels.models.blocks import blocks_of

    assert setup.reader is not None
    depth = len(blocks_of(setup.reader.model))
    return range(max(0, depth - LAST), depth)


def solve(setup: Setup, batch: Batch, labels: Sequence[int], num_labels: int) -> Solved:
    """Both translators, from what each model makes of the training texts."""
    from lwspec.kernels.methods.taught import receiver_states
    from lwspec.kernels.methods.translator import learn

    assert batch.pooled is not None
    layers = blended(setup)
    middle = layers[len(layers) // 2]
    states = receiver_states(setup, batch, middle, setup.settings.pooling)
    return Solved(*learn(batch.pooled.to(states), states, INNER))


def message(setup: Setup, batch: Batch) -> Sequence[Tensor]:
    """The translated state of each row: [1, receiver_width]."""
    from lwspec.kernels.methods.translator import translate

    assert batch.pooled is not None
    return list(translate(setup.weights, batch.pooled)[:, None])


def present(setup: Setup, message: Tensor, seen: Seen) -> Prompt:
    """[BOS][query], its last tokens' states blended; the query alone where nothing came."""
    assert setup.reader is not None
    ids = setup.reader.encode(seen.fill(setup.task["query"]))
    if not len(message):
        return [ids]
    states = message.expand(min(LAST, len(ids)), -1)
    return [ids, Graft(blended(setup), states, setup.settings.share)]


ARM = Arm(
    ArmDeclaration(
        name="vector_translation",
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
        seeded=True,
    ),
    solve=solve,
    message=message,
    present=present,
)
