"""What the frozen sender makes of a task's rows, once for all arms, seeds and sweep points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from lwspec.kernels.attempt import Attempt
from lwspec.kernels.models import load_reader
from lwspec.kernels.reader import Reader
from lwspec.kernels.rows import Row, read_rows

ROWS_AT_ONCE = 32


def prepare_states(attempt: Attempt, device: torch.device) -> None:
    """Hidden states of each owed block of rows, in the sender's own dtype."""
    settings = attempt.job.settings
    reader = load_reader(attempt, "sender", settings["model"], device)
    for output in attempt.owed():
        rows = block_rows(attempt, output)
        prompts = [_prompt(reader, row, settings) for row in rows]
        states: list[Tensor] = [torch.empty(0)] * len(rows)
        for indices in by_length([len(prompt) for prompt in prompts], ROWS_AT_ONCE):
            attempt.check()
            batch = reader.hidden_states([[prompts[i]] for i in indices], settings["layer"])
            for index, state in zip(indices, batch, strict=True):
                states[index] = state.cpu()
            attempt.progress(_known(states), len(rows), f"states of {output}")
        path = attempt.path / "states" / f"{output}.safetensors"
        _write_states(path, states, reader.width)
        full = settings["max_prompt_tokens"] + 1
        cut = sum(len(prompt) >= full for prompt in prompts)
        attempt.take(output, [path], {}, {"rows": len(rows), "prompts_at_limit": cut})


def _known(states: Sequence[Tensor]) -> int:
    return sum(state.numel() > 0 for state in states)


def _prompt(reader: Reader, row: Row, settings: object) -> list[int]:
    assert isinstance(settings, dict)
    prompt = settings["prompt"].replace("{context}", row.context)
    return reader.encode(prompt, settings["max_prompt_tokens"])


def by_length(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices in batches of like length, the longest first, so that little is padding."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def block_rows(attempt: Attempt, output: str) -> list[Row]:
    """The rows that a states output covers: a whole split, or one block of train."""
    split = output.split("-")[0]
    rows = read_rows(attempt.input("data").file("result", f"rows/{split}.parquet"))
    if split != "train" or output == "train-all":
        return rows
    start = int(output.removeprefix("train-")) * BLOCK_ROWS
    return rows[start : start + BLOCK_ROWS]


def _write_states(path: Path, states: Sequence[Tensor], width: int) -> None:
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


def open_states(attempt: Attempt, split: str) -> States:
    """The states of a split: those blocks of it that the job says it reads."""
    made = attempt.input("states")
    outputs = [name for name in attempt.job.reads["states"] if name.split("-")[0] == split]
    return States([made.file(name, f"states/{name}.safetensors") for name in sorted(outputs)])


def prepare_text(attempt: Attempt, device: torch.device) -> None:
    """What the sender writes on each test row, greedily."""
    settings = attempt.job.settings
    reader = load_reader(attempt, "sender", settings["model"], device)
    rows = block_rows(attempt, "test")
    prompts = [_prompt(reader, row, settings) for row in rows]
    texts, done = [""] * len(rows), 0
    for indices in by_length([len(prompt) for prompt in prompts], ROWS_AT_ONCE):
        attempt.check()
        written = reader.write([[prompts[i]] for i in indices], settings["max_new_tokens"])
        for index, text in zip(indices, written, strict=True):
            texts[index] = text.strip()
        done += len(indices)
        attempt.progress(done, len(rows), "sender writes")
    path = attempt.path / "texts" / "test.parquet"
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(pyarrow.table({"item": [r.item for r in rows], "text": texts}), path)
    empty = sum(not text for text in texts)
    attempt.take("test", [path], {}, {"rows": len(rows), "empty": empty})


@cache
def read_texts(path: Path) -> list[str]:
    """Texts that `prepare_text` wrote, in the order of the split's rows."""
    return [str(text) for text in parquet.read_table(path).column("text").to_pylist()]
