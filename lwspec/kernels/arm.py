"""The arm interface: the parts in which one way of communicating differs from another.

The trainer and the evaluator own every loop; an arm supplies functions. What crosses from sender
to receiver is what `message` returns and nothing else: `present` sees the context only where the
arm's declared regime says that the receiver does.

This module and the arms' files import no torch when they are read, so that planning stays light.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lwspec.engine.arm import ArmDeclaration
from lwspec.errors import ModelError
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Message, Prompt

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lwspec.kernels.models.reader import Reader


@dataclass(frozen=True)
class Batch:
    """What the sender's side has for some rows."""

    contexts: Sequence[str]
    states: Sequence[Tensor] | None = None
    """Hidden states of the sender, each [tokens, sender_width]."""
    texts: Sequence[str] | None = None
    """What the sender wrote."""
    pooled: Tensor | None = None
    """One vector a row [rows, sender_width], pooled from the layer in the arm's settings."""
    fields: Sequence[Mapping[str, str]] = ()
    """The rows' other columns that prompts name; none where they name none."""
    tasks: Sequence[Mapping[str, Any]] = ()
    """The task of each row, where a fit's batch has rows of several; else it is the setup's."""


@dataclass(frozen=True)
class Setup:
    """What a job has built around an arm before the first row."""

    settings: Any
    task: Mapping[str, Any]
    """The task's fields that the arm declared it reads; before a row is presented, in a fit over
    several tasks, those alone that are the same in all."""
    reader: Reader | None
    """The frozen model that answers; None for arms that need none."""
    sender_width: int | None
    examples: Sequence[tuple[Seen, str]] = ()
    """Training rows with their answers, as many of each label as the arm declared."""
    module: nn.Module | None = None
    """What `build` made; trained, or being trained."""
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    """What the fit found, where it is over."""
    sender: Reader | None = None
    """The frozen model that reads, for arms whose own jobs run both."""


@dataclass(frozen=True)
class Solved:
    """A model that is fitted in one step: its weights, and what was learnt about the fit."""

    weights: Mapping[str, Tensor]
    metrics: Mapping[str, float]
    parameters: int | None = None
    """How many of the weights' numbers count as trained; all where this is not given."""


@dataclass(frozen=True)
class Arm:
    """A declaration with the functions behind it; what an arm does not need stays None."""

    declaration: ArmDeclaration
    build: Callable[[Setup], nn.Module] | None = None
    """Its trainable module where its inputs lie, initialised from torch's seeded generator."""
    inputs: Callable[[Setup, Batch], Sequence[Tensor]] | None = None
    """What the module is run on, where the message [rows, soft_tokens, width] is what it makes."""
    message: Callable[[Setup, Batch], Message] | None = None
    """The message of an arm that makes it otherwise."""
    present: Callable[[Setup, Any, Seen], Prompt] | None = None
    """One row's message, and what the regime lets it see of the row, to what the reader runs on."""
    present_all: Callable[[Setup, Any, Sequence[Seen]], Sequence[Prompt]] | None = None
    """In place of `present`, for an arm that runs models to do it: rows of one task together. What
    it makes with its weights is kept until the receiver has passed over all of them."""
    loss: Callable[[Setup, Message], Tensor] | None = None
    """A term beside the answer's cross-entropy."""
    solve: Callable[[Setup, Batch, Sequence[int], int], Solved] | None = None
    """Fit in one step from all training rows, their labels and the number of labels; of an arm
    that also builds a module, the module's weights."""
    verdict: Callable[[Setup, Any], int | None] | None = None
    """The label that a message names outright, which is then what is answered; None where the
    reader answers."""
    predict: Callable[[Setup, Batch], Tensor] | None = None
    """Log-probabilities [rows, labels] without any reader."""

    @property
    def sends(self) -> bool:
        """Whether anything crosses from sender to receiver."""
        return self.inputs is not None or self.message is not None

    def messages(self, setup: Setup, batch: Batch) -> Message:
        """What crosses, one a row. Only where it `sends`. Raises ModelError for fewer or more."""
        if self.inputs is not None:
            assert setup.module is not None
            made = list(setup.module(*self.inputs(setup, batch)))
        else:
            assert self.message is not None
            made = list(self.message(setup, batch))
        self._check_one_each("messages", len(made), len(batch.contexts))
        return made

    def prompts(self, setup: Setup, messages: Sequence[Any], seen: Sequence[Seen]) -> list[Prompt]:
        """What the reader runs on for each row's message and what is seen of the row.

        Raises ModelError for fewer or more.
        """
        if self.present_all is None:
            assert self.present is not None
            return [self.present(setup, *row) for row in zip(messages, seen, strict=True)]
        made = list(self.present_all(setup, messages, seen))
        self._check_one_each("prompts", len(made), len(seen))
        return made

    def _check_one_each(self, what: str, made: int, rows: int) -> None:
        if made != rows:
            raise ModelError(
                f"{self.declaration.name} made {made} {what} of {rows} texts",
                remedy="return one for each text of the batch, in their order",
            )
