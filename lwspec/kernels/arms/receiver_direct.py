"""The receiver reads the whole text itself: what a message is measured against."""

from __future__ import annotations

from lwspec.engine.arm import ArmDeclaration
from lwspec.kernels.arm import Arm, Prompt, Setup


def present(setup: Setup, message: None, context: str | None) -> Prompt:
    """The receiver's prompt around the text."""
    assert setup.reader is not None and context is not None
    prompt = setup.task["receiver_prompt"].replace("{context}", context)
    return [setup.reader.encode(prompt, setup.task["max_prompt_tokens"])]


ARM = Arm(
    ArmDeclaration(
        name="receiver_direct",
        version=1,
        regime="reference",
        reads=("receiver_prompt", "answer", "max_prompt_tokens"),
        models=("receiver",),
    ),
    present=present,
)
