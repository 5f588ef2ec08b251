"""Batches of like length, and fewer rows at once when the GPU's memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from lwspec.kernels.attempt import Attempt

Part = TypeVar("Part")
Made = TypeVar("Made")


def by_length(lengths: Sequence[int], rows: int, most: int) -> Iterator[list[int]]:
    """Indices in batches of like length, the longest first, so that little is padding.

    A batch has at most so many `rows`, and less where they would be longer than `most` together.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    while order:
        size = min(rows, max(1, most // max(1, lengths[order[0]])))
        yield order[:size]
        order = order[size:]


def parts(rows: Sequence[Part], size: int) -> Iterator[Sequence[Part]]:
    """The rows in stretches of at most `size`."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


class RowsAtOnce:
    """How many rows go through a model together: halved, and recorded, when memory runs out."""

    def __init__(self, attempt: Attempt, most: int) -> None:
        self._attempt = attempt
        self.rows = most

    def over(
        self, rows: Sequence[Part], work: Callable[[Sequence[Part]], Sequence[Made]]
    ) -> list[Made]:
        """`work` over the rows, in as few parts as memory allows; results in the rows' order."""
        return self.retry(lambda: [made for part in parts(rows, self.rows) for made in work(part)])

    def retry(self, work: Callable[[], Made]) -> Made:
        """`work` from its beginning, with half the rows, until it fits.

        Raises torch.OutOfMemoryError where one row alone does not fit.
        """
        while True:
            try:
                return work()
            except torch.OutOfMemoryError:
                if self.rows == 1:
                    raise
            self.rows = (self.rows + 1) // 2
            self._attempt.event("fewer_rows_at_once", rows=self.rows)
            torch.cuda.empty_cache()
