"""Memory tokens: a model reads a text, then tokens of its own, and what it has of these is sent.

The tokens' embeddings are trained together with adapters in the model that reads. Shapes: B rows,
T tokens of the text, M memory tokens, W width, L layers, K numbers in one token's keys at a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from lwspec.kernels.message import Cached, Prompt
from lwspec.kernels.models.answer_logits import answer_logits
from lwspec.kernels.models.keys_values import (
    as_cached,
    as_vectors,
    from_vectors,
    keys_values,
)
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.training.loss import Counts, answer_loss

PADDING = -1

Carrier: TypeAlias = Callable[[Reader, Sequence[Prompt], int], Tensor]
"""From a model and prompts to messages made of so many last tokens of each."""


class Memory(nn.Module):
    """What is trained of a model that reads into memory tokens, and its pass over the texts."""

    def __init__(
        self,
        reader: Reader,
        carrier: Carrier,
        adapters: nn.ParameterDict,
        embeddings: Tensor,
        tokens: int,
        *,
        linear: nn.Linear | None = None,
        again: Tensor | None = None,
    ) -> None:
        """`embeddings` [M, W], or [1, W] for one of all tokens; `again` [1, width of the receiver]
        asks it to say the text, where that is trained; `linear` maps what is sent."""
        super().__init__()
        self.reader, self.carrier, self.tokens = reader, carrier, tokens
        self.adapters = adapters
        self.embeddings = nn.Parameter(embeddings.float().to(reader.device))
        self.linear = linear
        self.again = None if again is None else nn.Parameter(again.to(reader.device))
        self.texts: list[list[int]] = []
        """What was read last, in the receiver's tokens: what it is asked to say again."""

    @property
    def memory(self) -> Tensor:
        """The tokens that are read behind a text: [M, W]."""
        return self.embeddings.expand(self.tokens, -1)

    def forward(self, ids_BT: Tensor, texts_BT: Tensor | None = None) -> Tensor:
        """Messages [B, ...] in float32 from what `side_by_side` made of token ids."""
        self.texts = [] if texts_BT is None else apart(texts_BT)
        prompts: list[Prompt] = [[ids, self.memory] for ids in apart(ids_BT)]
        made = self.carrier(self.reader, prompts, self.tokens).float()
        return made if self.linear is None else self.linear(made)


def side_by_side(rows: Sequence[Sequence[int]]) -> Tensor:
    """Token ids [B, T], padded behind."""
    ids = [torch.tensor(row, dtype=torch.long) for row in rows]
    return pad_sequence(ids, batch_first=True, padding_value=PADDING)


def apart(ids_BT: Tensor) -> list[list[int]]:
    """The token ids of each row."""
    return [[token for token in row if token != PADDING] for row in ids_BT.tolist()]


def last_keys_values(
    reader: Reader, prompts: Sequence[Prompt], tokens: int, ends: int | None = None
) -> Tensor:
    """Keys and values of each prompt's last tokens, all heads in one vector: [B, L, 2, M, K].

    With `ends` they lie just before this position, and the text before them, from negative
    positions on where it is longer.
    """
    read = keys_values(reader, prompts, ends)
    return as_vectors(torch.stack([row[..., -tokens:, :] for row in read]))


def handed_over(reader: Reader, message: Tensor) -> Cached:
    """A message [L, 2, M, K] as a prompt's first segment; what is read next has position M, as if
    nothing but the memory had been read."""
    return as_cached(from_vectors(reader, message))


def autoencoding(reader: Reader, memory: Memory, carried: Sequence[Prompt]) -> Tensor:
    """Cross-entropy of the texts, said again by the receiver from what was carried of each.

    Mean over tokens, the end token after the last (Ge et al. 2024, ICAE, section 2.2).
    """
    assert memory.again is not None
    prompts = [[*prompt, memory.again] for prompt in carried]
    answers = [[*text, reader.eos] for text in memory.texts]
    counts = Counts(sum(map(len, answers)), len(answers))
    return answer_loss(*answer_logits(reader, prompts, answers), counts)
