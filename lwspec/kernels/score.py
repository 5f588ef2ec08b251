"""Scoring: one way for every arm and split, at validation and at test.

Each label's whole answer is scored by its log-probability; beside it the reader writes freely, and
what it wrote counts only where it is exactly one of the answers. Free text is written greedily and
compared with its target.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lwspec.kernels import wire
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.attempt import Attempt
from lwspec.kernels.items import Items
from lwspec.kernels.metrics import classification_metrics, parse_answer, text_metrics
from lwspec.kernels.sender import by_length
from lwspec.kernels.setup import Answers, answers_of, no_messages, present_all

VALIDATION_BATCH = 32
TEXT = "text"
"""The precision of a message that is no tensor."""

DECIDES = {"classification": "accuracy", "generation": "rougeL"}
"""Kind of task to the validation metric by which the best epoch is chosen."""


@dataclass(frozen=True)
class Scored:
    """What a split scored, and a column of predictions for each thing known of its rows."""

    metrics: Mapping[str, float]
    columns: Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Said:
    """What the reader said of each row, in the order of the rows."""

    label_logprobs: list[list[float]]
    first_tokens: list[int]
    written: list[str] | None
    message_bytes: list[int]


def score(
    attempt: Attempt,
    arm: Arm,
    setup: Setup,
    items: Items,
    *,
    batch_size: int = VALIDATION_BATCH,
    precision: str | None = None,
    write: bool = False,
) -> Scored:
    """Score every row; with `precision`, messages pass through bytes first and are measured.

    Labels are also written freely with `write`; free text is always written.
    """
    if arm.predict is not None:
        logprobs = arm.predict(setup, items.everything())
        return _labels_scored(items, logprobs.tolist(), len(setup.task["labels"]))
    answers = answers_of(setup)
    label_ids = answers.label_ids()
    most = answers.most_tokens or (max(map(len, label_ids)) + 1 if write else 0)
    said = _ask(attempt, arm, setup, items, label_ids, batch_size, precision, most)
    if label_ids:
        scored = _labels_scored(items, said.label_logprobs, len(label_ids))
        if said.written is not None:
            scored = _with(scored, _strict(said.written, answers, items), {"written": said.written})
    else:
        assert said.written is not None
        targets = [row.target for row in items.rows]
        columns = {"target": targets, "written": said.written}
        scored = Scored(text_metrics(said.written, targets), columns)
    firsts = [answers.ids(row.target)[0] for row in items.rows]
    right = _mean(token == first for token, first in zip(said.first_tokens, firsts, strict=True))
    scored = _with(scored, {"first_token_accuracy": right}, {})
    if precision is not None and arm.message is not None:
        sizes = said.message_bytes
        scored = _with(scored, {"message_bytes": _mean(sizes)}, {"message_bytes": sizes})
    return scored


def _with(
    scored: Scored, metrics: Mapping[str, float], columns: Mapping[str, Sequence[Any]]
) -> Scored:
    return Scored({**scored.metrics, **metrics}, {**scored.columns, **columns})


def _ask(
    attempt: Attempt,
    arm: Arm,
    setup: Setup,
    items: Items,
    label_ids: Sequence[Sequence[int]],
    batch_size: int,
    precision: str | None,
    most: int,
) -> Said:
    """Run the reader over every row, in batches of like length."""
    assert setup.reader is not None
    rows = len(items.rows)
    logprobs: list[list[float]] = [[] for _ in range(rows)]
    first, written, sizes = [-1] * rows, [""] * rows, [0] * rows
    done = 0
    for indices in by_length([len(row.context) for row in items.rows], batch_size):
        attempt.check()
        messages, lengths = _messages(arm, setup, items.batch(indices), precision)
        contexts = [items.rows[index].context for index in indices]
        with torch.no_grad():
            prompts = present_all(arm, setup, messages, contexts)
        said = setup.reader.answer(prompts, label_ids, most)
        for place, index in enumerate(indices):
            logprobs[index] = said.label_logprobs[place].tolist()
            first[index] = int(said.first_token[place])
            sizes[index] = lengths[place]
            if said.written is not None:
                written[index] = said.written[place]
        done += len(indices)
        attempt.progress(done, rows, "scoring")
    return Said(logprobs, first, written if most else None, sizes)


def _messages(
    arm: Arm, setup: Setup, batch: Batch, precision: str | None
) -> tuple[Sequence[Any], list[int]]:
    """What reaches the receiver, and the bytes that each message took on the way."""
    lengths = [0] * len(batch.contexts)
    if arm.message is None:
        return no_messages(batch.contexts), lengths
    with torch.no_grad():
        messages = arm.message(setup, batch)
    return (messages, lengths) if precision is None else wire.send(messages, precision)


def _labels_scored(items: Items, logprobs: list[list[float]], num_labels: int) -> Scored:
    """The most probable label of each row, held against its own."""
    predicted = [max(range(num_labels), key=row.__getitem__) for row in logprobs]
    columns: dict[str, Sequence[Any]] = {
        "label": items.labels,
        "predicted": predicted,
        "label_logprobs": logprobs,
    }
    return Scored(classification_metrics(items.labels, predicted, num_labels), columns)


def _strict(written: Sequence[str], answers: Answers, items: Items) -> dict[str, float]:
    """Accuracy of what was freely written, an unparsed answer being wrong, and their rate."""
    texts = [answers.text(label) for label in answers.labels]
    parsed = [parse_answer(text, texts) for text in written]
    right = (said == label for said, label in zip(parsed, items.labels, strict=True))
    return {
        "strict_accuracy": _mean(right),
        "unparsed_rate": _mean(said is None for said in parsed),
    }


def _mean(values: Iterable[float]) -> float:
    listed = [float(value) for value in values]
    return sum(listed) / len(listed)
