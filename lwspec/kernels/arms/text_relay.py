"""The sender writes, the receiver reads what it wrote in place of the text."""

from __future__ import annotations

from collections.abc import Sequence

from lwspec.engine.arm import ArmDeclaration, Need
from lwspec.engine.fields import Positive
from lwspec.engine.fields import Prompt as TextPrompt
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.methods.capped import Capped
from lwspec.kernels.prompts import present_text


class Settings(Capped):
    """What a spec may set in `text_relay = { ... }`."""

    prompt: TextPrompt
    """What the sender is asked, with {context}."""
    max_new_tokens: Positive = 32
    """The most that the sender writes."""


def needs(settings: Settings) -> tuple[Need, ...]:
    """What the sender writes, greedily, on each test row."""
    asked = {"prompt": settings.prompt, "max_new_tokens": settings.max_new_tokens}
    return (Need("text", {"method": "write", **asked}),)


def message(setup: Setup, batch: Batch) -> Sequence[str]:
    """The sender's text."""
    settings: Settings = setup.settings
    assert batch.texts is not None
    return settings.cut(batch.texts)


ARM = Arm(
    ArmDeclaration(
        name="text_relay",
        version=1,
        regime="private",
        settings=Settings,
        needs=needs,
        reads=("receiver_prompt", "answer", "max_prompt_tokens"),
        models=("receiver",),
    ),
    message=message,
    present=present_text,
)
