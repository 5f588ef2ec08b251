"""That no text is tested which a fit over other tasks was trained on.

A task's own splits are disjoint as they are prepared (rows.py); those of two tasks need not be.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from lwspec.errors import DataError
from lwspec.kernels.attempt import Attempt
from lwspec.kernels.data.items import most_samples
from lwspec.kernels.data.rows import content, read_rows


def check_unseen(tested: Attempt, splits: Sequence[str], trained: Sequence[Attempt]) -> None:
    """Hold the texts of a task's splits against the training rows of a fit's tasks.

    Each attempt is at one task: a part of the fit, or what is measured. Raises DataError.
    """
    for part in trained:
        if part.job.inputs["data"] == tested.job.inputs["data"]:
            continue
        trained_texts = _contents(_rows(part, "train"), most_samples(part.job.settings))
        for split in splits:
            both = len(trained_texts & _contents(_rows(tested, split), None))
            if both:
                raise DataError(
                    f"{both} texts of the {split} rows of {tested.job.names['task']!r} stand among "
                    f"the training rows of {part.job.names['task']!r}",
                    remedy="take the one out of train_on, or the texts out of its data",
                )


def _rows(attempt: Attempt, split: str) -> Path:
    return attempt.input("data").file("result", f"rows/{split}.parquet")


@cache
def _contents(path: Path, most: int | None) -> frozenset[bytes]:
    """Fingerprints of the first texts of a split."""
    return frozenset(content(row) for row in read_rows(path)[:most])
