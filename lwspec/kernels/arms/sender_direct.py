"""The sender answers from the whole text itself: the ceiling of what it could hand over."""

from __future__ import annotations

from lwspec.engine.arm import ArmDeclaration
from lwspec.kernels.arm import Arm, Setup, text_prompt
from lwspec.kernels.message import Prompt


def present(setup: Setup, message: None, context: str | None) -> Prompt:
    """The sender's prompt around the text."""
    assert context is not None
    return text_prompt(setup, "sender_prompt", context)


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
