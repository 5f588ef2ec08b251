"""What passes between the two models, and what a model is run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Message: TypeAlias = "Sequence[Tensor] | Sequence[str]"
"""One a row: numbers of any shape, such as soft tokens [soft_tokens, receiver_width], or text."""


@dataclass(frozen=True)
class Cached:
    """Tokens that were read elsewhere, as keys and values: the first segment of a prompt."""

    layers: Mapping[int, tuple[Tensor, Tensor]]
    """Layer to keys and values [key_heads, tokens, head_width], rotated to their positions; other
    layers have nothing of these tokens."""
    tokens: int
    """Positions that they take: what is read next has this one."""

    def __len__(self) -> int:
        return self.tokens


@dataclass(frozen=True)
class Graft:
    """A change to the hidden states of the tokens just before it; it takes no position itself."""

    layers: Sequence[int]
    """After this many blocks each; 0 is the embeddings."""
    states: Tensor
    """[tokens, width], for so many tokens."""
    share: float = 1.0
    """How much of the new states is taken from `states`, the rest from the model's own."""

    def __len__(self) -> int:
        return 0


Prompt: TypeAlias = "Sequence[Sequence[int] | Tensor | Cached | Graft]"
"""One row in segments: token ids, embeddings [tokens, width], or what was read elsewhere."""
