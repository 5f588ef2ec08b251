"""The receiver reads the first M of its own tokens of the text: the plainest short message."""

from __future__ import annotations

from collections.abc import Sequence

from lwspec.engine.arm import ArmDeclaration
from lwspec.engine.fields import Positive
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.methods.capped import Capped
from lwspec.kernels.prompts import present_text


class Settings(Capped):
    """What a spec may set in `truncated = { ... }`."""

    tokens: Positive = 8
    """How many are kept."""


def message(setup: Setup, batch: Batch) -> Sequence[str]:
    """The text of the first tokens."""
    assert setup.reader is not None
    settings: Settings = setup.settings
    return settings.cut([setup.reader.first_tokens(t, settings.tokens) for t in batch.contexts])


ARM = Arm(
    ArmDeclaration(
        name="truncated",
        version=1,
        regime="private",
        settings=Settings,
        reads=("receiver_prompt", "answer", "max_prompt_tokens"),
        models=("receiver",),
        tokens="tokens",
    ),
    message=message,
    present=present_text,
)
