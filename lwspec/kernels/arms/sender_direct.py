"""The sender answers from the whole text itself: the ceiling of what it could hand over."""

from __future__ import annotations

from lwspec.engine.arm import ArmDeclaration
from lwspec.kernels.arm import Arm, Prompt, Setup


def present(setup: Setup, message: None, context: str | None) -> Prompt:
    """The sender's prompt around the text."""
    assert setup.reader is not None and context is not None
    prompt = setup.task["sender_prompt"].replace("{context}", context)
    return [setup.reader.encode(prompt, setup.task["max_prompt_tokens"])]


ARM = Arm(
    ArmDeclaration(
        name="sender_direct",
        version=1,
        regime="reference",
        reads=("sender_prompt", "answer", "max_prompt_tokens"),
        models=("sender",),
    ),
    present=present,
)
