"""How many bits of the context a message delivers to the frozen receiver.

Shapes: B rows, T tokens of contexts, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

from lwspec.kernels.arm import Arm, Setup
from lwspec.kernels.data.rows import Row
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Prompt
from lwspec.kernels.models.answer_logits import answer_logits
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.training.loss import IGNORED


def context_bits(
    arm: Arm,
    setup: Setup,
    prompts: Sequence[Prompt],
    rows: Sequence[Row],
    most: int,
    rows_at_once: int,
) -> list[float | None]:
    """Each row's bits: the context's negative log-likelihood without the message less that with it.

    The receiver is given the first `most` tokens of the context behind the prompt that it would
    answer from, and behind the same without a message: the query alone, or its prompt around an
    empty text. Below 0 where a message misleads; None where a context has no token. The pointwise
    V-information of Ethayarajh et al. 2022 (ICML, "Understanding Dataset Difficulty with V-Usable
    Information"), with one frozen receiver in the place of two that are fitted.
    """
    reader = setup.reader
    assert reader is not None
    start = len(reader.bos)
    contexts = [reader.encode(row.context)[start:][:most] for row in rows]
    alone = [_without_message(arm, setup, row) for row in rows]
    told: list[float | None] = [None] * len(rows)
    places = [place for place, context in enumerate(contexts) if context]
    for first in range(0, len(places), rows_at_once):
        part = places[first : first + rows_at_once]
        tokens = [contexts[place] for place in part]
        without = _bits(reader, [alone[place] for place in part], tokens)
        given = _bits(reader, [prompts[place] for place in part], tokens)
        for place, bits in zip(part, (without - given).tolist(), strict=True):
            told[place] = bits
    return told


def _without_message(arm: Arm, setup: Setup, row: Row) -> Prompt:
    """What the receiver would be run on had nothing reached it."""
    assert setup.reader is not None
    seen = Seen(None, row.fields)
    if "query" in setup.task:
        return [setup.reader.encode(seen.fill(setup.task["query"]))]
    (prompt,) = arm.prompts(setup, [""], [seen])
    return prompt


@torch.no_grad()
def _bits(
    reader: Reader, prompts: Sequence[Prompt], tokens: Sequence[Sequence[int]]
) -> torch.Tensor:
    """Negative log-likelihood [B] of the tokens behind each prompt, in bits."""
    logits_BTV, tokens_BT = answer_logits(reader, prompts, tokens)
    nats_BT = functional.cross_entropy(
        logits_BTV.transpose(1, 2), tokens_BT, ignore_index=IGNORED, reduction="none"
    )
    return nats_BT.double().sum(1) / math.log(2)
