"""The sender's states and texts on disk: written by its jobs, read by those of the arms."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import pyarrow
import torch
from pyarrow import parquet
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lwspec.engine.job import BLOCK_ROWS
from lwspec.engine.modes import like_its_folder
from lwspec.engine.runs.runfolder import Runs
from lwspec.errors import ModelError, RunFolderError
from lwspec.kernels.attempt import Attempt

KEPT_FREE = 2**30
"""Bytes that stay free on the disk of the run folders, for what cannot be made anew."""


def room_for_states(runs: Runs, most: int | None) -> int:
    """Bytes of states that may still be stored: of the bound, and of what the disk has free.

    Two jobs that look at the same moment may both fill what is left of the bound.
    """
    free = shutil.disk_usage(runs.path).free - KEPT_FREE
    if most is None:
        return free
    stored = runs.path.glob("prepare-*/attempt-*/states/*.safetensors")
    return min(free, most - sum(file.stat().st_size for file in stored))


def write_states(path: Path, states: Sequence[Tensor], width: int) -> None:
    """Rows of states [tokens, width], one after the other, and where each ends."""
    path.parent.mkdir(exist_ok=True)
    ends = torch.tensor([0, *(len(state) for state in states)]).cumsum(0)
    flat = torch.cat(list(states)) if states else torch.empty(0, width)
    save_file({"states": flat.contiguous(), "ends": ends}, path)
    like_its_folder(path)


@contextmanager
def _unreadable(path: Path) -> Iterator[None]:
    """Raise RunFolderError for a file that is not what was written."""
    try:
        yield
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise RunFolderError(f"unreadable: {error}", where=str(path)) from None


class Block(Protocol):
    """States of some rows, wherever they come from."""

    @property
    def width(self) -> int:
        """Of the sender."""

    def of(self, rows: Sequence[int]) -> list[Tensor]:
        """States [tokens, width] of some of its rows."""


class StoredBlock:
    """Read from a file, mapped into memory, as they are asked for."""

    def __init__(self, path: Path) -> None:
        with _unreadable(path):
            file: Any = safe_open(path, "pt")
            self._slice = file.get_slice("states")
            self._ends = file.get_tensor("ends").tolist()
            length, width = self._slice.get_shape()
            self._width = int(width)
            if self._ends[:1] != [0] or self._ends[-1] != length:
                raise ValueError("the rows do not end where the states do")

    @property
    def width(self) -> int:
        """Of the sender."""
        return self._width

    def of(self, rows: Sequence[int]) -> list[Tensor]:
        """States [tokens, width] of some of its rows."""
        return [self._slice[self._ends[row] : self._ends[row + 1]] for row in rows]


class States:
    """Hidden states of one split in its blocks of rows."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = blocks
        self.width = blocks[0].width

    def of(self, rows: Sequence[int]) -> list[Tensor]:
        """States [tokens, width] of some rows of the split."""
        if len(self._blocks) == 1:
            return self._blocks[0].of(rows)
        found: dict[int, Tensor] = {}
        for number in {row // BLOCK_ROWS for row in rows}:
            mine = [row for row in rows if row // BLOCK_ROWS == number]
            states = self._blocks[number].of([row % BLOCK_ROWS for row in mine])
            found.update(zip(mine, states, strict=True))
        return [found[row] for row in rows]


def write_pooled(path: Path, pooled: Sequence[Tensor], width: int) -> None:
    """Rows of [layers + 1, width], layer by layer, so that one layer is read in one stretch."""
    path.parent.mkdir(exist_ok=True)
    stacked = torch.stack(list(pooled), 1) if pooled else torch.empty(0, 0, width)
    save_file({"pooled": stacked.contiguous()}, path)
    like_its_folder(path)


class Pooled:
    """Stored pooled states of one split at one layer."""

    def __init__(self, files: Sequence[Path], layer: int) -> None:
        slices: list[Any] = []
        for file in files:
            with _unreadable(file):
                opened: Any = safe_open(file, "pt")
                slices.append(opened.get_slice("pooled"))
                _layers, _rows, _width = slices[-1].get_shape()
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


def open_pooled(attempt: Attempt, split: str, layer: int) -> Pooled:
    """The pooled states of a split at one layer."""
    made, outputs = attempt.input("pooled"), blocks_read(attempt, "pooled", split)
    return Pooled([made.file(name, f"pooled/{name}.safetensors") for name in outputs], layer)


def blocks_read(attempt: Attempt, role: str, split: str) -> list[str]:
    """The outputs of an input that hold a split, or those blocks of it that the job reads."""
    return sorted(name for name in attempt.job.reads[role] if name.split("-")[0] == split)
