"""LoRA trained on the sender and moved to the receiver, which reads the whole text (Cross-LoRA).

The adapter learns the task on the sender's own prompt, then goes to the receiver by the singular
vectors of both models' weights, with no further training (Xia et al. 2025). No message is sent: it
shows what a sender can hand over once and for all in weights.

Deviations: the rank of the subspaces is cut to what a layer has; blocks are paired by relative
depth; decompositions are exact. The adapter is trained here in one go, at `batch_size` rows at
once and without checkpoints, on tasks with labels alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field

from lwspec.engine.arm import ArmDeclaration
from lwspec.engine.fields import Positive
from lwspec.kernels.arm import Arm, Batch, Setup, Solved
from lwspec.kernels.arms import lora
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.prompts import text_prompt

if TYPE_CHECKING:
    from torch import nn


class Settings(lora.Settings):
    """What a spec may set in `cross_lora = { ... }`."""

    subspace: Positive = 320
    """The rank to which the models' weights are cut before their subspaces are matched."""
    epochs: Positive = 1
    """Of the adapter's training on the sender."""
    batch_size: Positive = 16
    """Of the adapter's training on the sender."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """Of the adapter's training on the sender."""


def passes(settings: Settings) -> int:
    """A step of training costs as much as three forward passes."""
    return 3 * settings.epochs


def solve(setup: Setup, batch: Batch, labels: Sequence[int], num_labels: int) -> Solved:
    """Train the adapter on the sender, and move it: the receiver's weights."""
    from lwspec.kernels.methods.transfer import move_all, train
    from lwspec.kernels.setup import answers_of

    assert setup.sender is not None and setup.reader is not None
    settings: Settings = setup.settings
    task = {key: value for key, value in setup.task.items() if key != "receiver_prompt"}
    own = replace(setup, reader=setup.sender, task=task)
    module = cast("nn.ParameterDict", lora.build(own))
    fields = batch.fields or [{}] * len(batch.contexts)
    seen = [Seen(*row) for row in zip(batch.contexts, fields, strict=True)]
    said = [[*ids, setup.sender.eos] for ids in answers_of(own).label_ids()]
    loss = train(
        setup.sender,
        list(module.parameters()),
        [text_prompt(own, "sender_prompt", row) for row in seen],
        [said[label] for label in labels],
        settings.model_dump(),
    )
    moved = move_all(setup.sender.model, setup.reader.model, settings.targets, settings.subspace)
    return Solved(moved, {"train_loss": loss})


ARM = Arm(
    ArmDeclaration(
        name="cross_lora",
        version=1,
        regime="reference",
        settings=Settings,
        reads=("receiver_prompt", "sender_prompt", "answer", "max_prompt_tokens"),
        models=("receiver", "sender"),
        generates=False,
        trained=True,
        passes=passes,
        own=("receiver", "sender"),
        seeded=True,
    ),
    build=lora.build,
    solve=solve,
    present=lora.present,
)
