"""The sender's states as jobs read them: stored, or made anew where there was no room for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from torch import Tensor

from lwspec.kernels.attempt import Attempt
from lwspec.kernels.data.stored import Block, States, StoredBlock, blocks_read
from lwspec.kernels.models.load import device_of, load_reader
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.sender import block_rows, states_of


def open_states(attempt: Attempt, split: str) -> States:
    """The states of a split: those blocks of it that the job says it reads."""
    made = attempt.input("states")
    taken, blocks = made.taken(), list[Block]()
    for output in blocks_read(attempt, "states", split):
        name = f"states/{output}.safetensors"
        stored = name in taken[output]["files"]
        maker = replace(attempt, job=made.job())
        if not stored:
            attempt.event("states_made_anew", output=output)
        blocks.append(
            StoredBlock(made.file(output, name)) if stored else MadeAnew(attempt, maker, output)
        )
    return States(blocks)


class MadeAnew:
    """A block that was not stored: the sender reads the rows whenever they are asked for."""

    def __init__(self, attempt: Attempt, maker: Attempt, output: str) -> None:
        """`maker` is the attempt in the place of the job that did not store them."""
        self._attempt, self._maker = attempt, maker
        self._rows = block_rows(maker, output)

    @cached_property
    def _sender(self) -> Reader:
        model = self._maker.job.settings["model"]
        return load_reader(self._maker, "sender", model, device_of(self._attempt))

    @property
    def width(self) -> int:
        """Of the sender."""
        return self._sender.width

    def of(self, rows: Sequence[int]) -> list[Tensor]:
        """States [tokens, width] of some of its rows, on this machine's memory."""
        chosen = [self._rows[row] for row in rows]
        made = states_of(self._sender, chosen, self._maker.job.settings)
        return [states.cpu() for states in made]
