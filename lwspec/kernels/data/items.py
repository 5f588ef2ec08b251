"""A split as arms see it: rows with whatever inputs the job was given for them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from lwspec.errors import DataError
from lwspec.kernels.arm import Batch
from lwspec.kernels.attempt import Attempt
from lwspec.kernels.data.rows import Row, read_rows
from lwspec.kernels.data.states import open_states
from lwspec.kernels.data.stored import Pooled, States, open_pooled, read_texts


@dataclass(frozen=True)
class Items:
    """Rows of one split, each with its place in the split."""

    rows: Sequence[Row]
    places: Sequence[int]
    states: States | None
    texts: Sequence[str] | None
    pooled: Pooled | None

    @property
    def labels(self) -> list[int]:
        """The index of each row's label."""
        return [row.label for row in self.rows]

    @property
    def sender_width(self) -> int | None:
        """How wide the sender's states are, where the job was given any."""
        given = self.states or self.pooled
        return given.width if given is not None else None

    def batch(self, indices: Sequence[int]) -> Batch:
        """What the sender's side has for some rows."""
        states: list[Tensor] | None = None
        if self.states is not None:
            states = self.states.of([self.places[index] for index in indices])
        texts = None
        if self.texts is not None:
            texts = [self.texts[self.places[index]] for index in indices]
        pooled = None
        if self.pooled is not None:
            pooled = self.pooled.of([self.places[index] for index in indices])
        rows = [self.rows[index] for index in indices]
        contexts, fields = [row.context for row in rows], [row.fields for row in rows]
        return Batch(contexts, states, texts, pooled, fields)

    def everything(self) -> Batch:
        """One batch of all rows."""
        return self.batch(range(len(self.rows)))


def open_items(attempt: Attempt, split: str) -> Items:
    """A whole split with the inputs that the job names."""
    path = attempt.input("data").file("result", f"rows/{split}.parquet")
    rows = read_rows(path)
    states = open_states(attempt, split) if "states" in attempt.job.inputs else None
    texts = None
    if "text" in attempt.job.inputs:
        texts = read_texts(attempt.input("text").file(split, f"texts/{split}.parquet"))
    pooled = None
    if "pooled" in attempt.job.inputs:
        pooled = open_pooled(attempt, split, attempt.job.settings["arm_settings"]["layer"])
    return Items(rows, range(len(rows)), states, texts, pooled)


def first_items(items: Items, most: int | None) -> Items:
    """The first rows, in the order that the task's sample_seed gave them."""
    return replace(items, rows=items.rows[:most], places=items.places[:most])


def drawn_items(items: Items, count: int | None, seed: int) -> Items:
    """So many rows drawn without order, kept in the split's order; all where `count` is None."""
    if count is None or count >= len(items.rows):
        return items
    places = sorted(random.Random(seed).sample(range(len(items.rows)), count))
    return replace(items, rows=[items.rows[place] for place in places], places=places)


def most_samples(settings: Mapping[str, Any]) -> int | None:
    """How many training rows of a task a fit takes at most; None where it takes all."""
    samples: Mapping[str, int | None] = settings["samples"]
    return samples.get("exactly") or samples.get("max")


def open_training_items(attempt: Attempt) -> Items:
    """The training rows that the spec asks for. Raises DataError where there are too few."""
    settings = attempt.job.settings
    exactly = settings["samples"].get("exactly")
    items = first_items(open_items(attempt, "train"), most_samples(settings))
    if exactly is not None and len(items.rows) < exactly:
        raise DataError(
            f"the spec asks for {exactly} training samples; the split has {len(items.rows)}",
            where=f"task {attempt.job.names['task']!r}",
            remedy=f"set samples = {{ max = {exactly} }} to take what there is",
        )
    return items
