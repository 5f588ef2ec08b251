"""The sender's states and texts on disk: written by its jobs, read by those of the arms."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow
import torch
from pyarrow import parquet
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from lwspec.engine.job import BLOCK_ROWS
from lwspec.errors import ModelError
from lwspec.kernels.attempt import Attempt


def write_states(path: Path, states: Sequence[Tensor], width: int) -> None:
    """Rows of states [tokens, width], one after the other, and where each ends."""
    path.parent.mkdir(exist_ok=True)
    ends = torch.tensor([0, *(len(state) for state in states)]).cumsum(0)
    flat = torch.cat(list(states)) if states else torch.empty(0, width)
    save_file({"states": flat.contiguous(), "ends": ends}, path)


class States:
    """Stored hidden states of one split, read from disk as they are asked for."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files: list[Any] = [safe_open(file, "pt") for file in files]
        self._slices = [file.get_slice("states") for file in self._files]
        self._ends = [file.get_tensor("ends").tolist() for file in self._files]
        self.width = int(self._slices[0].get_shape()[1])

    def of(self, row: int) -> Tensor:
        """States [tokens, width] of one row of the split."""
        block, offset = (0, row) if len(self._files) == 1 else divmod(row, BLOCK_ROWS)
        ends = self._ends[block]
        states: Tensor = self._slices[block][ends[offset] : ends[offset + 1]]
        return states


def write_pooled(path: Path, pooled: Sequence[Tensor], width: int) -> None:
    """Rows of [layers + 1, width], layer by layer, so that one layer is read in one stretch."""
    path.parent.mkdir(exist_ok=True)
    stacked = torch.stack(list(pooled), 1) if pooled else torch.empty(0, 0, width)
    save_file({"pooled": stacked.contiguous()}, path)


class Pooled:
    """Stored pooled states of one split at one layer."""

    def __init__(self, files: Sequence[Path], layer: int) -> None:
        opened: list[Any] = [safe_open(file, "pt") for file in files]
        slices = [file.get_slice("pooled") for file in opened]
        depth = max(part.get_shape()[0] for part in slices) - 1
        if layer > depth:
            raise ModelError(
                f"layer {layer} is asked for; the sender has {depth}",
                remedy=f"set layer to at most {depth}",
            )
        blocks = [part[layer] for part in slices if part.get_shape()[1]]
        self._rows = torch.cat(blocks)
        self.width = int(self._rows.shape[1])

    def of(self, rows: Sequence[int]) -> Tensor:
        """Vectors [rows, width] of some rows of the split."""
        return self._rows[list(rows)]


def write_texts(path: Path, items: Sequence[int], texts: Sequence[str]) -> None:
    """A text for each item."""
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(pyarrow.table({"item": list(items), "text": list(texts)}), path)


@cache
def read_texts(path: Path) -> list[str]:
    """Texts that `write_texts` wrote, in the order of the split's rows."""
    return [str(text) for text in parquet.read_table(path).column("text").to_pylist()]


def open_states(attempt: Attempt, split: str) -> States:
    """The states of a split: those blocks of it that the job says it reads."""
    return States(_blocks(attempt, "states", split))


def open_pooled(attempt: Attempt, split: str, layer: int) -> Pooled:
    """The pooled states of a split at one layer."""
    return Pooled(_blocks(attempt, "pooled", split), layer)


def _blocks(attempt: Attempt, role: str, split: str) -> list[Path]:
    made = attempt.input(role)
    outputs = [name for name in attempt.job.reads[role] if name.split("-")[0] == split]
    return [made.file(name, f"{role}/{name}.safetensors") for name in sorted(outputs)]
