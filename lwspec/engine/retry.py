"""Which attempts are followed by another without anybody asking: pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Annotated

from pydantic import Field

from lwspec.engine.fields import Frozen

Times = Annotated[int, Field(ge=0)]


class Retries(Frozen):
    """How often in a row a job is tried again by itself, by how its attempts ended.

    What was asked to stop (a time limit, preemption, Ctrl-C) goes on from its checkpoint as often
    as it takes, within its allowance. Wrong data, a wrong model or a spent allowance are never
    tried again by themselves.
    """

    killed: Times = 3
    """From outside: a node that failed, `kill -9`, the host's memory, whether SLURM ends the
    process or Python is refused more."""
    network: Times = 2
    """A server that a job could not reach."""
    out_of_memory: Times = 0
    """The GPU's; rows that do not fit at once were halved before."""
    disk: Times = 0
    """No room, or a file system that failed."""
    code: Times = 0
    """An exception that nobody foresaw."""


def again(outcomes: Sequence[str | None], retries: Retries) -> bool:
    """Whether attempts that ended so, oldest first, are followed by another; None is killed."""
    if not outcomes or outcomes[-1] in ("stopped", "finished"):
        return True
    last = outcomes[-1]
    in_a_row = sum(1 for _ in takewhile(lambda outcome: outcome == last, reversed(outcomes)))
    limits = {
        None: retries.killed,
        "out of host memory": retries.killed,
        "network": retries.network,
        "out of memory": retries.out_of_memory,
        "disk": retries.disk,
        "code": retries.code,
    }
    return in_a_row <= limits.get(last, 0)
