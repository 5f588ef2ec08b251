"""What a trainable arm learns from: the answer's tokens, and the receiver that read the text.

Losses are sums over rows divided by the whole batch's counts, so that a batch in several parts
adds up to the same loss as in one. Shapes: B rows, T answer tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

IGNORED = -100


@dataclass(frozen=True)
class Counts:
    """How many answer tokens and rows a whole batch has."""

    tokens: int
    rows: int


def supervised(answer: Sequence[int], train: Mapping[str, Any]) -> Sequence[int]:
    """The tokens of an answer that are learnt: all, or the first `supervised_tokens`."""
    return answer[: train["supervised_tokens"]]


def answer_loss(logits_BTV: Tensor, tokens_BT: Tensor, counts: Counts) -> Tensor:
    """Cross-entropy of the answers' tokens: a part's share of the batch's mean over tokens."""
    summed = functional.cross_entropy(
        logits_BTV.flatten(0, 1), tokens_BT.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return summed / counts.tokens


def first_token_loss(logits_BTV: Tensor, tokens_BT: Tensor, counts: Counts) -> Tensor:
    """Cross-entropy of each answer's first token: a part's share of the batch's mean over rows."""
    first_B = (tokens_BT != IGNORED).long().argmax(1)
    rows = torch.arange(len(tokens_BT), device=tokens_BT.device)
    summed = functional.cross_entropy(
        logits_BTV[rows, first_B], tokens_BT[rows, first_B], reduction="sum"
    )
    return summed / counts.rows


def distillation_loss(
    student_BTV: Tensor, teacher_BTV: Tensor, tokens_BT: Tensor, counts: Counts, temperature: float
) -> Tensor:
    """T^2 KL(teacher || student) over the answers' tokens (Hinton et al. 2015, section 2)."""
    student = (student_BTV / temperature).log_softmax(-1)
    teacher = (teacher_BTV / temperature).log_softmax(-1)
    divergence_BT = functional.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)
    summed = divergence_BT[tokens_BT != IGNORED].sum()
    return temperature**2 * summed / counts.tokens


def separation(
    matched_BTV: Tensor, mismatched_BTV: Tensor, tokens_BT: Tensor, counts: Counts
) -> Tensor:
    """Jensen-Shannon divergence, in nats, of answers under a row's own message and another's.

    Over the answers' tokens: a part's share of the batch's mean.
    """
    own, other = matched_BTV.log_softmax(-1), mismatched_BTV.log_softmax(-1)
    middle = torch.logaddexp(own, other) - math.log(2)
    both = [
        functional.kl_div(middle, each, reduction="none", log_target=True).sum(-1)
        for each in (own, other)
    ]
    summed = (0.5 * (both[0] + both[1]))[tokens_BT != IGNORED].sum()
    return summed / counts.tokens


def partners(targets: Sequence[str]) -> list[int]:
    """For each row of a batch the next one, in a circle, that has another target.

    A row that finds none is its own partner: it has nothing to be told apart from.
    """
    rows = len(targets)
    circle = [[(row + step) % rows for step in range(1, rows)] for row in range(rows)]
    return [
        next((other for other in others if targets[other] != targets[row]), row)
        for row, others in enumerate(circle)
    ]


def batch_loss(
    logits_BTV: Tensor,
    tokens_BT: Tensor,
    counts: Counts,
    train: Mapping[str, Any],
    teacher_BTV: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """A part's share of the batch's loss, and of the cross-entropy alone.

    `teacher_BTV` are logits of the receiver that read the text itself: what is distilled.
    """
    plain = answer_loss(logits_BTV, tokens_BT, counts)
    whole = plain
    if train["first_token_weight"]:
        first = first_token_loss(logits_BTV, tokens_BT, counts)
        whole = whole + train["first_token_weight"] * first
    if teacher_BTV is not None:
        temperature = train["distillation_temperature"]
        divergence = distillation_loss(logits_BTV, teacher_BTV, tokens_BT, counts, temperature)
        whole = whole + train["distillation"] * divergence
    return whole, plain.detach()
