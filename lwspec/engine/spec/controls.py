"""Controls: what an arm's score must be held against before its message counts as read.

A control changes one thing and is measured like the arm itself. Those of the message replace what
reaches the receiver at the test and share the arm's fit; those of the models, the prompt or the
training rows give a fit of their own. Sources: mismatched and perturbed messages from Interlat
(CrossTask, CovGauss, RandomRot), the receiver as its own sender from C2C (Identical), permuted
labels from Hewitt and Liang 2019 (selectivity, section 2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from lwspec.engine.arm import ArmDeclaration, Role
from lwspec.engine.fields import Frozen
from lwspec.engine.shapes import Shape
from lwspec.engine.spec.spec import Train
from lwspec.engine.spec.task import Task

CONTROL = "control"
"""The key of a sweep point that names its control."""
RANDOM_WEIGHTS = 73_856_093
"""The seed of a random sender's weights: one draw for all arms and seeds, as of a real sender, and
no seed that a real one's training is likely to have begun from."""
BLIND_PROMPT = "{context}"
"""What a sender reads that is not told the task."""


@dataclass(frozen=True)
class Case:
    """An arm as a control meets it."""

    arm: ArmDeclaration
    settings: Frozen
    task: Task
    train: Train
    shapes: Mapping[Role, Shape]
    """Of the models, where they are known."""


def _any(case: Case) -> str | None:
    """A message reaches a receiver."""
    if not case.arm.models:
        return "no receiver reads its message"
    return None


def _labels(case: Case) -> str | None:
    if case.task.kind != "classification":
        return "the task has no labels: other_item is the control for free text"
    return _any(case)


def _no_transfer(case: Case) -> str | None:
    """What is no sequence of soft tokens or text is left out as the receiver's own prompt is."""
    alone = "receiver_prompt" if case.arm.regime == "shared" else "query"
    if case.arm.vectors is not None and alone not in case.arm.reads:
        return f"it does not read the task's {alone}, which the receiver would have alone"
    return _any(case)


def _numbers(case: Case) -> str | None:
    if case.arm.models and not case.arm.soft:
        return "its message holds no vectors"
    return _any(case)


def _one_shape(case: Case) -> str | None:
    """Messages of as many vectors for a prompt of one token as for the longest."""
    arm, shapes = case.arm, case.shapes
    if not arm.soft or arm.tokens is not None:
        return _numbers(case)
    if arm.vectors is not None and len(shapes) == 2:
        ends = (1, case.task.max_prompt_tokens)
        if len({arm.vectors(case.settings, shapes, tokens) for tokens in ends}) == 1:
            return _numbers(case)
    return "its messages are not known to be all of one size"


def _sender(case: Case) -> str | None:
    if "sender" in case.arm.models or case.arm.needs(case.settings):
        return None
    return "it has no sender"


def _layer(case: Case) -> str | None:
    if getattr(case.settings, "layer", None) != 0:
        return "it has no setting `layer` that could be 0"
    return None


def _prompt(case: Case) -> str | None:
    live = "sender" in case.arm.models and "sender_prompt" in case.arm.reads
    if live or any(need.step != "text" for need in case.arm.needs(case.settings)):
        return None
    return "its sender does not read the task's sender_prompt"


def _training(case: Case) -> str | None:
    if not case.arm.trained:
        return "it is not trained"
    if not case.arm.learns_answers:
        return "it is fitted to texts alone, whatever their answers are"
    if case.arm.epochs and case.train.distillation:
        return "distillation teaches what the text says, whatever the answers are"
    return None


@dataclass(frozen=True)
class Control:
    """What is changed, in words that end a sentence, and why an arm may not take it."""

    says: str
    unfit: Callable[[Case], str | None]
    """Why it makes no sense for an arm on a task; None where it does."""
    message: bool = False
    """Whether it changes what reaches the receiver at the test, and nothing before."""


CONTROLS: Mapping[str, Control] = {
    "same_label": Control("the message of another test item with the same label", _labels, True),
    "other_label": Control("the message of a test item with another label", _labels, True),
    "other_item": Control("the message of another test item", _any, True),
    "zero": Control("every number of the message is 0, or its text empty", _any, True),
    "mean": Control("the mean of all test items' messages", _one_shape, True),
    "gaussian": Control(
        "drawn from a normal distribution with the mean and, at each token, the covariance of up "
        "to 1,024 items' messages",
        _one_shape,
        True,
    ),
    "rotation": Control("the message, its width turned by a random rotation", _numbers, True),
    "no_transfer": Control("no message", _no_transfer, True),
    "random_sender": Control("a sender with random weights", _sender),
    "layer_0": Control("the sender's embeddings in place of a layer's output", _layer),
    "identical": Control("the receiver is its own sender", _sender),
    "permuted_labels": Control("trained on answers that are permuted among the rows", _training),
    "task_blind": Control("the sender reads the text without the task's prompt", _prompt),
}
"""By the name that a spec uses."""


def replaces_message(point: Mapping[str, Any]) -> bool:
    """Whether a sweep point has a control of the message: its fit is the plain point's."""
    return CONTROL in point and CONTROLS[point[CONTROL]].message


def of_sender(control: str | None, model: Mapping[str, Any]) -> Mapping[str, Any]:
    """What identifies the sender's weights under a control."""
    return {**model, "random_weights": RANDOM_WEIGHTS} if control == "random_sender" else model


def sender_prompt(control: str | None, task: Task) -> str:
    """What the sender is asked under a control."""
    return BLIND_PROMPT if control == "task_blind" else task.sender_prompt


def of_table(control: str | None, arm: ArmDeclaration, table: Mapping[str, Any]) -> dict[str, Any]:
    """An arm's own table under a control: unchanged where the arm cannot take it."""
    if control != "layer_0" or "layer" not in arm.settings.model_fields:
        return dict(table)
    embeddings = {**table, "layer": 0}
    try:
        arm.settings.model_validate(embeddings)
    except ValidationError:
        return dict(table)  # a layer above 0, as which the plan refuses it
    return embeddings
