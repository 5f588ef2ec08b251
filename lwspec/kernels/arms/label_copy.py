"""The sender's verdict as a code of one byte: what does a message add to a bare label?

The code is that of the most probable label under the linear probe's regression, 1 to K; 0 names
none. A receiver that is given a label answers it, in scoring and in free writing alike, since the
codebook beside it holds the labels' answers; given none, it answers to the query alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lwspec.engine.arm import ArmDeclaration
from lwspec.errors import DataError
from lwspec.kernels.arm import Arm, Batch, Setup, Solved
from lwspec.kernels.arms import linear_probe
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Prompt

if TYPE_CHECKING:
    from torch import Tensor

CODES = 256
"""That one byte can tell apart, the one that names no label among them."""


def solve(setup: Setup, batch: Batch, labels: Sequence[int], num_labels: int) -> Solved:
    """The linear probe's regression. Raises DataError for more labels than there are codes."""
    if num_labels >= CODES:
        raise DataError(
            f"a label is sent as one byte, for {CODES - 1} labels at most; the task has "
            f"{num_labels}",
            remedy="take label_copy out of this experiment",
        )
    return linear_probe.solve(setup, batch, labels, num_labels)


def message(setup: Setup, batch: Batch) -> Sequence[Tensor]:
    """The code of the most probable label: [1] in uint8."""
    import torch

    codes = linear_probe.predict(setup, batch).argmax(-1, keepdim=True) + 1
    return list(codes.to(torch.uint8))


def present(setup: Setup, message: Tensor, seen: Seen) -> Prompt:
    """[BOS][query], whatever the code: it has no place among the receiver's tokens."""
    assert setup.reader is not None
    return [setup.reader.encode(seen.fill(setup.task["query"]))]


def verdict(setup: Setup, message: Tensor) -> int | None:
    """The label of a code; none for 0, and none where nothing came."""
    code = int(message[0]) if len(message) else 0
    return code - 1 if code else None


ARM = Arm(
    ArmDeclaration(
        name="label_copy",
        version=1,
        generates=False,
        regime="private",
        settings=linear_probe.Settings,
        needs=linear_probe.needs,
        reads=("query", "answer"),
        models=("receiver",),
        fixed_bytes=1,
        trained=True,
    ),
    solve=solve,
    message=message,
    present=present,
    verdict=verdict,
)
