"""The sender answers from the whole text itself: the ceiling of what it could hand over."""

from __future__ import annotations

from lwspec.engine.arm import ArmDeclaration
from lwspec.kernels.arm import Arm, Setup
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Prompt
from lwspec.kernels.prompts import text_prompt


def present(setup: Setup, message: None, seen: Seen) -> Prompt:
    """The sender's prompt around the text."""
    return text_prompt(setup, "sender_prompt", seen)


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
