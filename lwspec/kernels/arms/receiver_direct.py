"""The receiver reads the whole text itself: what a message is measured against."""

from __future__ import annotations

from lwspec.engine.arm import ArmDeclaration
from lwspec.kernels.arm import Arm, Setup
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Prompt
from lwspec.kernels.prompts import text_prompt


def present(setup: Setup, message: None, seen: Seen) -> Prompt:
    """The receiver's prompt around the text."""
    return text_prompt(setup, "receiver_prompt", seen)


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
