"""The receiver reads the whole text itself, after solved examples from the training rows.

The examples are the first training rows of each label, equally many of each: the same for every
item, and drawn by the task's sample_seed alone.
"""

from __future__ import annotations

from lwspec.engine.arm import ArmDeclaration
from lwspec.engine.fields import Frozen, Positive
from lwspec.kernels.arm import Arm, Setup
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Prompt


class Settings(Frozen):
    """What a spec may set in `few_shot = { ... }`."""

    each: Positive = 1
    """Examples of each label."""
    max_prompt_tokens: Positive = 1024
    """The prompt with its examples is cut to its last tokens, of this number."""


def examples(settings: Settings) -> int:
    """Examples of each label."""
    return settings.each


def present(setup: Setup, message: None, seen: Seen) -> Prompt:
    """The solved examples, then the receiver's prompt around the text."""
    assert setup.reader is not None
    template: str = setup.task["receiver_prompt"]
    solved = [example.fill(template) + answer for example, answer in setup.examples]
    prompt = "\n\n".join([*solved, seen.fill(template)])
    return [setup.reader.encode(prompt, setup.settings.max_prompt_tokens)]


ARM = Arm(
    ArmDeclaration(
        name="few_shot",
        version=1,
        generates=False,
        regime="reference",
        settings=Settings,
        examples=examples,
        reads=("receiver_prompt", "answer"),
        models=("receiver",),
    ),
    present=present,
)
