"""The text's least expected words under the sender, in their order: a message by pruning.

The receiver reads them in place of the text. It stands beside llmlingua, whose own small model it
replaces by the frozen sender, and needs no network.
"""

from __future__ import annotations

from collections.abc import Sequence

from lwspec.engine.arm import ArmDeclaration, Need
from lwspec.engine.fields import Positive
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.methods.capped import Capped
from lwspec.kernels.prompts import present_text


class Settings(Capped):
    """What a spec may set in `perplexity_pruning = { ... }`."""

    tokens: Positive = 8
    """How many of the sender's tokens are kept."""


def needs(settings: Settings) -> tuple[Need, ...]:
    """What the sender keeps of each test row's context."""
    return (Need("text", {"method": "prune", "keep_tokens": settings.tokens}),)


def message(setup: Setup, batch: Batch) -> Sequence[str]:
    """The kept tokens as text."""
    settings: Settings = setup.settings
    assert batch.texts is not None
    return settings.cut(batch.texts)


ARM = Arm(
    ArmDeclaration(
        name="perplexity_pruning",
        version=1,
        regime="private",
        settings=Settings,
        needs=needs,
        reads=("receiver_prompt", "answer", "max_prompt_tokens"),
        models=("receiver",),
        tokens="tokens",
    ),
    message=message,
    present=present_text,
)
