"""Controls of the message: what reaches the receiver in the place of what was sent for its row.

Messages pass through bytes first. Which row's message another gets, and what is drawn, is settled
for the whole split in its order, from the task's sample_seed: the same for every arm and seed, and
whatever rows are scored together. Messages are made again where they are needed, and not kept.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lwspec.errors import DataError
from lwspec.kernels.arm import Arm
from lwspec.kernels.arms import no_message, receiver_direct
from lwspec.kernels.data.batches import parts
from lwspec.kernels.data.items import Items

Sent: TypeAlias = tuple[Sequence[Any], list[int]]
"""What reaches the receiver, one a row, and the bytes that each took."""
Send: TypeAlias = Callable[[Sequence[int]], Sent]
"""From indices of rows to what is sent for them."""

ROWS = 32
"""Messages that are made together where the whole split's are looked at."""
KEPT = 1024
"""Rows whose messages stand for the split's where a covariance is drawn from: of a larger split so
many are drawn, since all must be kept."""


def controlled(name: str, send: Send, items: Items, seed: int) -> Send:
    """`send` under a control of the spec. Raises DataError where rows lack donors."""
    if name in DONORS:
        donors = DONORS[name](items, random.Random(f"{seed} {name}"))
        return lambda rows: send([donors[row] for row in rows])
    return CHANGES[name](send, items, seed)


def receiver_alone(arm: Arm) -> Arm:
    """An arm whose receiver is handed nothing.

    Soft tokens and texts are presented with none of them; what else crosses is left out, so that
    the receiver has its query, or in the shared regime its prompt around the text.
    """
    if arm.declaration.vectors is None:
        return arm
    alone = receiver_direct if arm.declaration.regime == "shared" else no_message
    return replace(arm, present=alone.present, present_all=None)


def _from_same_label(items: Items, source: random.Random) -> list[int]:
    """Rows of a label in one random cycle: each gets another's message, each message goes once."""
    donors = [0] * len(items.rows)
    for label in sorted(set(items.labels)):
        rows = [row for row, own in enumerate(items.labels) if own == label]
        if len(rows) == 1:
            raise DataError(
                f"one test item alone has the label {items.rows[rows[0]].target!r}: no other item "
                "of that label can send it a message",
                remedy="test more rows, or leave same_label out for this task",
            )
        for row, donor in _cycle(rows, source):
            donors[row] = donor
    return donors


def _from_other_label(items: Items, source: random.Random) -> list[int]:
    """For each row any of those with another label, each as likely as the others."""
    labels = items.labels
    others = {
        label: [row for row, other in enumerate(labels) if other != label] for label in set(labels)
    }
    if len(others) == 1:
        raise DataError(
            f"all {len(labels)} test items have the label {items.rows[0].target!r}: none can send "
            "the message of another label",
            remedy="test more rows, or leave other_label out for this task",
        )
    return [source.choice(others[label]) for label in labels]


def _from_other_item(items: Items, source: random.Random) -> list[int]:
    """All rows in one random cycle."""
    _need_two(items)
    donors = dict(_cycle(range(len(items.rows)), source))
    return [donors[row] for row in range(len(items.rows))]


def _need_two(items: Items) -> None:
    if len(items.rows) == 1:
        raise DataError("there is one test item: no other has a message", remedy="test more rows")


def _cycle(rows: Sequence[int], source: random.Random) -> Iterator[tuple[int, int]]:
    """Each row with the next in a random order, the last with the first."""
    order = source.sample(rows, len(rows))
    yield from zip(order, [*order[1:], order[0]], strict=True)


def _zero(send: Send, items: Items, seed: int) -> Send:
    """Numbers that are all zero; of a text nothing, which takes no bytes."""
    return _each(send, lambda one: "" if isinstance(one, str) else torch.zeros_like(one))


def _no_transfer(send: Send, items: Items, seed: int) -> Send:
    """A message of no soft tokens, or of no text."""
    return _each(send, lambda one: one[:0])


def _rotation(send: Send, items: Items, seed: int) -> Send:
    """Every token of every message turned by one orthogonal matrix [W, W], drawn uniformly."""

    @cache
    def drawn(width: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.nn.init.orthogonal_(torch.empty(width, width), generator=generator)

    return _each(send, lambda one: one @ drawn(one.shape[-1]).T.to(one.device, one.dtype))


def _mean(send: Send, items: Items, seed: int) -> Send:
    """The mean of all messages, summed in float64."""

    @cache
    def mean() -> Tensor:
        whole = torch.zeros((), dtype=torch.float64)
        for message in _over(send, range(len(items.rows))):
            whole = whole + message.double()
        return whole / len(items.rows)

    return _each(send, lambda one: mean().to(one.device, one.dtype))


def _gaussian(send: Send, items: Items, seed: int) -> Send:
    """Draws from a normal distribution with the mean and, at each token, the messages' covariance.

    A draw is mean + C^T z / sqrt(N - 1) with C [N, W] the centred messages and z [N] standard
    normal, so that no matrix [W, W] is made. Of more than KEPT rows, so many stand for all.
    """
    _need_two(items)
    count = min(len(items.rows), KEPT)
    rows = sorted(random.Random(f"{seed} gaussian").sample(range(len(items.rows)), count))

    @cache
    def moments() -> tuple[Tensor, Tensor]:
        """The mean [P, W] and C at each token [P, N, W], in float32."""
        kept_NPW = torch.stack([one.flatten(0, -2).float() for one in _over(send, rows)])
        mean_PW = kept_NPW.double().mean(0).float()
        return mean_PW, (kept_NPW - mean_PW).transpose(0, 1)

    def sent(indices: Sequence[int]) -> Sent:
        messages, sizes = send(indices)
        mean_PW, centred_PNW = moments()
        normal_PBN = torch.stack([_normal(len(mean_PW), count, seed, row) for row in indices], 1)
        spread_BPW = (normal_PBN @ centred_PNW).transpose(0, 1) / math.sqrt(count - 1)
        pairs = zip(mean_PW + spread_BPW, messages, strict=True)
        return [drawn.view(one.shape).to(one.device, one.dtype) for drawn, one in pairs], sizes

    return sent


def _normal(tokens: int, count: int, seed: int, row: int) -> Tensor:
    """Standard normal numbers [tokens, count] of one row, whichever rows are drawn with it."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + row)
    return torch.randn(tokens, count, generator=generator)


def _each(send: Send, change: Callable[[Any], Any]) -> Send:
    """What is sent, each message changed by itself; what is empty after that takes no bytes."""

    def sent(indices: Sequence[int]) -> Sent:
        messages, sizes = send(indices)
        changed = [change(one) for one in messages]
        return changed, [size if len(one) else 0 for one, size in zip(changed, sizes, strict=True)]

    return sent


def _over(send: Send, rows: Sequence[int]) -> Iterator[Tensor]:
    """The messages of some rows on this machine's memory, a few made at once.

    Raises DataError where they are not of one size.
    """
    shapes = set[torch.Size]()
    for part in parts(rows, ROWS):
        messages = send(part)[0]
        shapes.update(message.shape for message in messages)
        if len(shapes) > 1:
            listed = " and ".join(str(list(shape)) for shape in sorted(shapes))
            raise DataError(
                f"messages are of the sizes {listed}: they have no mean",
                remedy="leave the controls mean and gaussian out for this arm",
            )
        yield from (message.cpu() for message in messages)


DONORS: Mapping[str, Callable[[Items, random.Random], list[int]]] = {
    "same_label": _from_same_label,
    "other_label": _from_other_label,
    "other_item": _from_other_item,
}
"""Controls that are another row's message: from the rows to each one's donor."""

CHANGES: Mapping[str, Callable[[Send, Items, int], Send]] = {
    "zero": _zero,
    "mean": _mean,
    "gaussian": _gaussian,
    "rotation": _rotation,
    "no_transfer": _no_transfer,
}
"""Controls that change the row's own message, or make one from all rows'."""
