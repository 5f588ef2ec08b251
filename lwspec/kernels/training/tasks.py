"""The tasks that a fit is over: their rows in one batch, and one judgement of an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from lwspec.kernels.arm import Batch, Setup
from lwspec.kernels.data.items import Items
from lwspec.kernels.data.rows import Row
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.measuring.metrics import mean
from lwspec.kernels.measuring.score import Scored, validation_metrics
from lwspec.kernels.message import Prompt
from lwspec.kernels.prompts import text_prompt
from lwspec.kernels.setup import answers_of
from lwspec.kernels.training.loss import supervised


@dataclass(frozen=True)
class TrainingTask:
    """One task of a fit, with the setup in which its rows are presented and answered."""

    name: str
    setup: Setup
    train: Items
    validation: Items
    teacher: Mapping[str, Any] | None = None
    """The task's fields for the receiver that reads the text, where that is distilled."""

    def batch(self, indices: Sequence[int]) -> Batch:
        """What the sender's side has for some training rows, each with its task."""
        return replace(self.train.batch(indices), tasks=[self.setup.task] * len(indices))

    def answers(self, rows: Sequence[Row], train: Mapping[str, Any]) -> list[Sequence[int]]:
        """The tokens of each row's answer that are learnt, its end token after the last."""
        assert self.setup.reader is not None
        answers, end = answers_of(self.setup), self.setup.reader.eos
        return [supervised([*answers.ids(row.target), end], train) for row in rows]

    def taught(self, rows: Sequence[Row]) -> list[Prompt]:
        """Prompts with the text itself, where the receiver that reads it is distilled."""
        if self.teacher is None:
            return []
        setup = replace(self.setup, task=self.teacher)
        return [text_prompt(setup, "receiver_prompt", Seen(r.context, r.fields)) for r in rows]


def in_common(tasks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The fields that are the same in all tasks: what a batch of several may ask its setup for."""
    first, *others = tasks
    return {
        key: value
        for key, value in first.items()
        if all(key in other and other[key] == value for other in others)
    }


def by_task(sizes: Iterable[int], indices: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Rows by the number of their task, each as its place among the task's own.

    `indices` count through the rows of all tasks, of which there are so many each.
    """
    ends = list(accumulate(sizes))
    found: list[tuple[int, list[int]]] = []
    for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        own = [index - start for index in indices if start <= index < end]
        if own:
            found.append((number, own))
    return found


def joined(batches: Sequence[Batch]) -> Batch:
    """The rows of several batches as one; all have what the first has."""
    if len(batches) == 1:
        return batches[0]
    return Batch(**{f.name: _one([getattr(b, f.name) for b in batches]) for f in fields(Batch)})


def _one(values: Sequence[Any]) -> Any:
    if values[0] is None:
        return None
    if isinstance(values[0], Tensor):
        return torch.cat(list(values))
    return [row for rows in values for row in rows]


def validated(scores: Mapping[str, Scored]) -> dict[str, float]:
    """An epoch's metrics from each task's: the mean over tasks, and of several each one's too."""
    if len(scores) == 1:
        return validation_metrics(*scores.values())
    each = {task: validation_metrics(scored) for task, scored in scores.items()}
    first, *others = each.values()
    shared = [name for name in first if all(name in metrics for metrics in others)]
    means = {name: mean([metrics[name] for metrics in each.values()]) for name in shared}
    own = {f"{name}:{task}": each[task][name] for task in each for name in each[task]}
    return means | own
