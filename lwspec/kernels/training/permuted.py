"""Training rows whose answers say nothing of their texts (Hewitt and Liang 2019, section 2)."""

from __future__ import annotations

import random
from dataclasses import replace

from lwspec.kernels.data.items import Items


def permuted_answers(items: Items, seed: int) -> Items:
    """The same rows, their answers permuted among them: labels stay as frequent as they were.

    Rows of validation keep theirs: it measures what of the texts was learnt all the same.
    """
    order = random.Random(f"{seed} permuted_labels").sample(range(len(items.rows)), len(items.rows))
    given = [items.rows[place] for place in order]
    rows = [
        replace(row, target=other.target, label=other.label, accepted=other.accepted)
        for row, other in zip(items.rows, given, strict=True)
    ]
    return replace(items, rows=rows)
