"""Scoring: one way for every arm and split, at validation and at test.

Each label's whole answer is scored by its log-probability; beside it the reader writes freely, and
what it wrote counts only where it is exactly one of the answers. Free text is written greedily and
compared with its target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from lwspec.engine.job import ANSWERED_CHARS, ROWS_AT_ONCE
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.attempt import Attempt
from lwspec.kernels.data.batches import RowsAtOnce, by_length
from lwspec.kernels.data.items import Items
from lwspec.kernels.measuring import wire
from lwspec.kernels.measuring.bits import context_bits
from lwspec.kernels.measuring.controls import Send, Sent, controlled, receiver_alone
from lwspec.kernels.measuring.metrics import (
    macro_f1,
    mean_where_defined,
    parse_answer,
    text_scores,
)
from lwspec.kernels.models.answering import answer
from lwspec.kernels.setup import AnswerFormat, answers_of, no_messages, present_rows

LOGITS_AT_ONCE = 2**29
"""Of a batch, in float32: two gigabytes of what many labels would make of a large vocabulary."""
TEXT = "text"
"""The precision of a message that is no tensor."""


@dataclass(frozen=True)
class Scored:
    """What a split scored, and a column of predictions for each thing known of its rows.

    A metric that is a mean over rows has its rows' scores in the column of its name, None for a row
    on which it is not defined.
    """

    metrics: Mapping[str, float]
    columns: Mapping[str, Sequence[Any]]


def validation_metrics(scored: Scored) -> dict[str, float]:
    """Its metrics as those of an epoch."""
    return {f"validation_{name}": value for name, value in scored.metrics.items()}


@dataclass(frozen=True)
class Said:
    """What the reader said of one row."""

    label_logprobs: list[float]
    first_token: int
    written: str | None
    message_bytes: int
    context_bits: float | None


def score(
    attempt: Attempt,
    arm: Arm,
    setup: Setup,
    items: Items,
    *,
    batch_size: int = ROWS_AT_ONCE,
    precision: str | None = None,
    write: bool = False,
    control: str | None = None,
    sample_seed: int = 0,
    bits: int | None = None,
) -> Scored:
    """Score every row; with `precision`, messages pass through bytes first and are measured.

    Labels are also written freely with `write`; free text is always written. A `control` changes
    what reaches the receiver, by the task's `sample_seed`. With `bits`, what messages tell of the
    first so many tokens of contexts is measured too.
    """
    if arm.predict is not None:
        logprobs = arm.predict(setup, items.everything())
        return _labels_scored(items, logprobs.tolist(), len(setup.task["labels"]))
    answers = answers_of(setup)
    label_ids = answers.label_ids()
    most = answers.most_tokens or (max(map(len, label_ids)) + 1 if write else 0)

    def send(indices: Sequence[int]) -> Sent:
        attempt.check()
        return _messages(arm, setup, items.batch(indices), precision)

    sent = send if control is None else controlled(control, send, items, sample_seed)
    presented = receiver_alone(arm) if control == "no_transfer" else arm

    def ask(indices: Sequence[int]) -> list[Said]:
        return _ask(presented, setup, items, indices, label_ids, sent, most, bits)

    assert setup.reader is not None
    logits = sum(map(len, label_ids), 1) * setup.reader.embedding.num_embeddings
    at_once = min(batch_size, max(1, LOGITS_AT_ONCE // logits))
    said = _ask_all(attempt, items, at_once, ask)
    written = [row.written or "" for row in said]
    if label_ids:
        scored = _labels_scored(items, [row.label_logprobs for row in said], len(label_ids))
        if most:
            scored = _with(scored, _strict(written, answers, items), {"written": written})
    else:
        targets = [row.accepted or (row.target,) for row in items.rows]
        columns = {"target": [row.target for row in items.rows], "written": written}
        scores = text_scores(written, targets, setup.task.get("answer_pattern"))
        scored = _with(Scored({}, {}), scores, columns)
    firsts = [answers.ids(row.target)[0] for row in items.rows]
    right = [float(row.first_token == first) for row, first in zip(said, firsts, strict=True)]
    scored = _with(scored, {"first_token_accuracy": right})
    if precision is not None and arm.sends:
        scored = _with(scored, {"message_bytes": [row.message_bytes for row in said]})
    if bits is not None:
        scored = _with(scored, {"context_bits": [row.context_bits for row in said]})
    return scored


def _ask_all(
    attempt: Attempt, items: Items, batch_size: int, ask: Callable[[Sequence[int]], list[Said]]
) -> list[Said]:
    """Ask about every row, in batches of like length; answers in the order of the rows."""
    at_once = RowsAtOnce(attempt, batch_size)
    found: dict[int, Said] = {}
    for indices in by_length([len(row.context) for row in items.rows], batch_size, ANSWERED_CHARS):
        attempt.check()
        found.update(zip(indices, at_once.over(indices, ask), strict=True))
        attempt.progress(len(found), len(items.rows), "scoring")
    return [found[index] for index in range(len(items.rows))]


def _with(
    scored: Scored,
    scores: Mapping[str, Sequence[float | None]],
    columns: Mapping[str, Sequence[Any]] | None = None,
) -> Scored:
    """Add rows' scores, their means, and other columns; what is defined on no row is left out."""
    found = {name: mean_where_defined(rows) for name, rows in scores.items()}
    means = {name: value for name, value in found.items() if value is not None}
    kept = {name: scores[name] for name in means}
    return Scored({**scored.metrics, **means}, {**scored.columns, **(columns or {}), **kept})


def _ask(
    arm: Arm,
    setup: Setup,
    items: Items,
    indices: Sequence[int],
    label_ids: Sequence[Sequence[int]],
    send: Send,
    most: int,
    bits: int | None,
) -> list[Said]:
    """Run the reader once over some rows; with `bits`, over their contexts too."""
    assert setup.reader is not None
    messages, sizes = send(indices)
    rows = [items.rows[index] for index in indices]
    with torch.no_grad():
        prompts = present_rows(arm, setup, messages, rows)
    told: Sequence[float | None] = [None] * len(rows)
    if bits is not None:
        at_once = max(1, LOGITS_AT_ONCE // (bits * setup.reader.embedding.num_embeddings))
        told = context_bits(arm, setup, prompts, rows, bits, at_once)
    answers = answer(setup.reader, prompts, label_ids, most)
    written: Sequence[str | None] = answers.written or [None] * len(indices)
    logprobs, firsts = answers.label_logprobs.tolist(), answers.first_token.tolist()
    said = [Said(*row) for row in zip(logprobs, firsts, written, sizes, told, strict=True)]
    if arm.verdict is None:
        return said
    verdicts = [arm.verdict(setup, message) for message in messages]
    return [_named(setup, *pair) for pair in zip(said, verdicts, strict=True)]


def _named(setup: Setup, said: Said, label: int | None) -> Said:
    """What is answered where a message names a label outright: that label, with certainty."""
    if label is None:
        return said
    answers = answers_of(setup)
    name = answers.labels[label]
    return replace(
        said,
        label_logprobs=[0.0 if n == label else -math.inf for n in range(len(answers.labels))],
        first_token=answers.ids(name)[0],
        written=None if said.written is None else answers.text(name),
    )


def _messages(arm: Arm, setup: Setup, batch: Batch, precision: str | None) -> Sent:
    """What reaches the receiver, and the bytes that each message took on the way."""
    lengths = [0] * len(batch.contexts)
    if not arm.sends:
        return no_messages(batch.contexts), lengths
    with torch.no_grad():
        messages = arm.messages(setup, batch)
    return (messages, lengths) if precision is None else wire.send(messages, precision)


def _labels_scored(items: Items, logprobs: list[list[float]], num_labels: int) -> Scored:
    """The most probable label of each row, held against its own."""
    predicted = [max(range(num_labels), key=row.__getitem__) for row in logprobs]
    columns: dict[str, Sequence[Any]] = {
        "label": items.labels,
        "predicted": predicted,
        "label_logprobs": logprobs,
    }
    right = [float(label == said) for label, said in zip(items.labels, predicted, strict=True)]
    whole = Scored({"macro_f1": macro_f1(items.labels, predicted, num_labels)}, columns)
    return _with(whole, {"accuracy": right})


def _strict(written: Sequence[str], answers: AnswerFormat, items: Items) -> dict[str, list[float]]:
    """Whether each row's free answer was right, an unparsed one being wrong, and whether it was."""
    texts = [answers.text(label) for label in answers.labels]
    parsed = [parse_answer(text, texts) for text in written]
    right = [float(said == label) for said, label in zip(parsed, items.labels, strict=True)]
    return {"strict_accuracy": right, "unparsed_rate": [float(said is None) for said in parsed]}
