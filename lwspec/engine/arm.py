"""What the engine knows of an arm: its name, settings and needs, without its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lwspec.engine.fields import Frozen
from lwspec.engine.shapes import Shape

Role = Literal["sender", "receiver"]
Regime = Literal["private", "shared", "reference"]


class NoSettings(Frozen):
    """For arms with nothing to set."""


@dataclass(frozen=True)
class Need:
    """An input that a `prepare` job makes once for every arm, seed and sweep point that asks.

    `states` are the sender's hidden states at `layer`; `pooled` one vector a layer, of which the
    arm takes that of its own setting `layer`; `text` what the sender writes, or keeps of a text.
    """

    step: Literal["states", "pooled", "text"]
    settings: Mapping[str, Any]


def no_needs(settings: Frozen) -> tuple[Need, ...]:
    """For arms whose jobs work from the texts alone."""
    return ()


def no_examples(settings: Any) -> int:
    """For arms whose prompts show no solved examples."""
    return 0


def no_parameters(settings: Any, sender_width: int, receiver_width: int) -> int:
    """For arms that train nothing."""
    return 0


def no_separation(settings: Any) -> float:
    """For arms that are not taught how answers change with another row's message."""
    return 0.0


def no_passes(settings: Any) -> int:
    """For arms that are not solved from what a model makes of the training texts in their fit."""
    return 0


@dataclass(frozen=True)
class ArmDeclaration:
    """One way for the receiver to get what the sender read, as the planner sees it."""

    name: str
    version: int
    """Raised by the arm's author when its results change."""
    regime: Regime
    """The receiver never sees the context; it does; or there is no message at all: a bound."""
    settings: type[Frozen] = NoSettings
    needs: Callable[[Any], tuple[Need, ...]] = no_needs
    reads: tuple[str, ...] = ()
    """The fields of the task that it uses: no other field can change its results."""
    models: tuple[Role, ...] = ()
    """The frozen models that its own jobs load; of both, the receiver answers."""
    examples: Callable[[Any], int] = no_examples
    """How many labelled training rows of each label its prompts show, from its settings."""
    tokens: str | None = None
    """The setting that holds M, its message's length in tokens; None where none is stated."""
    soft: bool = False
    """Whether its message is soft tokens, which are serialised at the evaluation's precision."""
    fixed_bytes: int | None = None
    """The bytes of each of its messages, where neither text nor a precision decides them."""
    generates: bool = True
    """Whether it can answer with free text; otherwise classification tasks alone."""
    trained: bool = False
    learns_answers: bool = True
    """Whether what it is trained on is the rows' answers, and not their texts alone."""
    epochs: bool = False
    """Trained by the trainer's loop over epochs; otherwise solved in one step."""
    separation: Callable[[Any], float] = no_separation
    """How much its loss rewards answers that differ between a row's own message and that of
    another: the weight of their Jensen-Shannon divergence, from its settings."""
    passes: Callable[[Any], int] = no_passes
    """Of what is solved in one step: how often its fit has a frozen model read all training texts,
    from its settings and counted in forward passes; for the price."""
    own: tuple[Role, ...] = ()
    """The models into which it puts weights of its own, and which nothing else can share then."""
    pair: Literal["any", "same_shape", "same_model"] = "any"
    """Which sender its receiver can be handed something by: any, one of the same shape, such as
    another fine-tune of its base, or itself."""
    vectors: Callable[[Any, Mapping[Role, Shape], int], tuple[int, int]] | None = None
    """How many vectors a message holds at most and how wide they are, from its settings, both
    models' shapes and the most tokens of a prompt; its soft tokens where this is not given."""
    seeded: bool = False
    """Whether a seed can change it; an arm that is not seeded runs once, not once a seed."""
    parameters: Callable[[Any, int, int], int] = no_parameters
    """How many parameters it trains, from its settings and both models' widths: for the price."""
    weights: Callable[[Any, Mapping[Role, Shape]], int] | None = None
    """The same from both models' shapes, where their widths do not tell."""

    deviations: str = ""
    """How it departs from what was published, as its file's docstring says after `Deviations:`;
    printed below tables."""
    file: str | None = None
    """Where an arm of a spec's `arm_files` stands, and its content's hash: part of its jobs' ids,
    where an arm of lwspec's own has its version."""
    sha256: str | None = None

    def message_tokens(self, settings: Frozen) -> int:
        """How many tokens of the receiver's context its message takes; 0 where none is stated."""
        return int(getattr(settings, self.tokens)) if self.tokens else 0

    def trained_parameters(self, settings: Frozen, shapes: Mapping[Role, Shape]) -> int:
        """How many parameters it trains for a pair of models."""
        if self.weights is not None:
            return self.weights(settings, shapes)
        return self.parameters(settings, shapes["sender"].width, shapes["receiver"].width)


def deviations_in(docstring: str | None) -> str:
    """The sentence of a docstring that says what departs from a source; empty without one."""
    _, _, after = (docstring or "").partition("Deviations: ")
    return " ".join(after.partition("\n\n")[0].replace("`", "").split())
