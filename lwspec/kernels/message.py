"""What passes between the two models, and what a model is run on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Message: TypeAlias = "Sequence[Tensor] | Sequence[str]"
"""One a row: soft tokens [soft_tokens, receiver_width], or text."""

Prompt: TypeAlias = "Sequence[Sequence[int] | Tensor]"
"""One row in segments: token ids, or embeddings [tokens, width]."""
