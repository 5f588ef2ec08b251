"""The receiver reads the whole text itself: what a message is measured against."""

from __future__ import annotations

from lwspec.engine.arm import ArmDeclaration
from lwspec.kernels.arm import Arm, Setup, text_prompt
from lwspec.kernels.message import Prompt


def present(setup: Setup, message: None, context: str | None) -> Prompt:
    """The receiver's prompt around the text."""
    assert context is not None
    return text_prompt(setup, "receiver_prompt", context)


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
