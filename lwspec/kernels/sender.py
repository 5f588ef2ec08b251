"""What the frozen sender makes of a task's rows, once for all arms, seeds and sweep points.

The functions that take a reader and rows are also what latency is measured on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from lwspec.engine.job import ANSWERED_CHARS, BLOCK_ROWS, READ_CHARS, ROWS_AT_ONCE
from lwspec.kernels.attempt import Attempt
from lwspec.kernels.data.batches import RowsAtOnce, by_length
from lwspec.kernels.data.rows import Row, read_rows
from lwspec.kernels.data.seen import fill
from lwspec.kernels.data.stored import room_for_states, write_pooled, write_states, write_texts
from lwspec.kernels.models.answering import write
from lwspec.kernels.models.hidden import hidden_states, pooled_states
from lwspec.kernels.models.load import load_reader
from lwspec.kernels.models.pool import pool
from lwspec.kernels.models.prune import prune
from lwspec.kernels.models.reader import Reader

Made = TypeVar("Made")
Work: TypeAlias = Callable[[Reader, Sequence[Row], Mapping[str, Any]], list[Made]]
"""The frozen sender over some rows, with a job's settings."""


def states_of(reader: Reader, rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Tensor]:
    """Hidden states [tokens, width] of each row's prompt at the layer asked for."""
    prompts = [[prompt(reader, row, settings)] for row in rows]
    return hidden_states(reader, prompts, settings["layer"])


def pooled_of(reader: Reader, rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Tensor]:
    """Pooled states [layers + 1, width] of each row's prompt."""
    prompts = [[prompt(reader, row, settings)] for row in rows]
    return pooled_states(reader, prompts, settings["pooling"])


def pooled_at(
    reader: Reader, rows: Sequence[Row], settings: Mapping[str, Any], layer: int
) -> Tensor:
    """Pooled states [rows, width] of one layer alone; nothing above it is run."""
    states = states_of(reader, rows, {**settings, "layer": layer})
    alone = [row[None] for row in states]
    ones = [torch.ones(row.shape[:2], device=row.device) for row in alone]
    pairs = zip(alone, ones, strict=True)
    return torch.cat([pool(row, settings["pooling"], mask) for row, mask in pairs])


def texts_of(reader: Reader, rows: Sequence[Row], settings: Mapping[str, Any]) -> list[str]:
    """What the sender writes on each row, greedily, or keeps of it."""
    if settings["method"] == "prune":
        contexts = [row.context for row in rows]
        return prune(reader, contexts, settings["keep_tokens"], settings["max_prompt_tokens"])
    prompts = [[prompt(reader, row, settings)] for row in rows]
    return [text.strip() for text in write(reader, prompts, settings["max_new_tokens"])]


def prompt(reader: Reader, row: Row, settings: Mapping[str, Any]) -> list[int]:
    """The sender's prompt for a row, cut to its last tokens."""
    text = fill(settings["prompt"], row.context, row.fields)
    return reader.encode(text, settings["max_prompt_tokens"])


def prepare_states(attempt: Attempt, device: torch.device) -> None:
    """Hidden states at one layer of each owed block of rows, in the sender's own dtype.

    A block that there is no room for is offered without its file: who reads it makes it anew.
    """

    def room(reader: Reader, rows: Sequence[Row]) -> bool:
        tokens = sum(len(prompt(reader, row, attempt.job.settings)) for row in rows)
        size: int = tokens * reader.width * reader.embedding.weight.element_size()
        return size < room_for_states(attempt.runs, attempt.job.states_bytes)

    _prepare(attempt, device, states_of, write_states, room)


def prepare_pooled(attempt: Attempt, device: torch.device) -> None:
    """Pooled states of every layer of each owed block of rows: one pass for any choice of layer."""
    _prepare(attempt, device, pooled_of, write_pooled, lambda reader, rows: True)


def _prepare(
    attempt: Attempt,
    device: torch.device,
    work: Work[Tensor],
    write: Callable[[Path, Sequence[Tensor], int], None],
    room: Callable[[Reader, Sequence[Row]], bool],
) -> None:
    """A file for each owed block of rows, in a folder named after the job's step."""
    job = attempt.job
    reader = load_reader(attempt, "sender", job.settings["model"], device)
    for output in attempt.owed():
        rows = block_rows(attempt, output)
        facts = _facts(reader, rows, job.settings)
        if not room(reader, rows):
            attempt.event("no_room", output=output)
            attempt.take(output, [], {}, {**facts, "stored": False})
            continue
        made: list[Tensor] = [torch.empty(0)] * len(rows)
        for index, tensor in _pass(attempt, reader, rows, output, work):
            made[index] = tensor.cpu()
        path = attempt.path / job.step / f"{output}.safetensors"
        write(path, made, reader.width)
        attempt.take(output, [path], {}, facts)


def prepare_text(attempt: Attempt, device: torch.device) -> None:
    """What the sender writes on each test row, or keeps of it."""
    settings = attempt.job.settings
    reader = load_reader(attempt, "sender", settings["model"], device)
    rows = block_rows(attempt, "test")
    texts = [""] * len(rows)
    for index, text in _pass(attempt, reader, rows, "test", texts_of):
        texts[index] = text
    path = attempt.path / "texts" / "test.parquet"
    write_texts(path, [row.item for row in rows], texts)
    empty = sum(not text for text in texts)
    attempt.take("test", [path], {}, {"rows": len(rows), "empty": empty})


def _pass(
    attempt: Attempt, reader: Reader, rows: Sequence[Row], output: str, work: Work[Made]
) -> Iterator[tuple[int, Made]]:
    """`work` over all rows in batches of like length: each row's place and what was made of it."""
    at_once = RowsAtOnce(attempt, ROWS_AT_ONCE)
    most = ANSWERED_CHARS if "max_new_tokens" in attempt.job.settings else READ_CHARS
    done = 0
    for indices in by_length([len(row.context) for row in rows], ROWS_AT_ONCE, most):
        attempt.check()
        chosen = [rows[index] for index in indices]
        made = at_once.over(chosen, lambda part: work(reader, part, attempt.job.settings))
        done += len(indices)
        attempt.progress(done, len(rows), f"sender reads {output}")
        yield from zip(indices, made, strict=True)


def _facts(reader: Reader, rows: Sequence[Row], settings: Mapping[str, Any]) -> dict[str, Any]:
    full = settings["max_prompt_tokens"] + len(reader.bos)
    cut = sum(len(prompt(reader, row, settings)) >= full for row in rows)
    return {"rows": len(rows), "prompts_at_limit": cut}


def block_rows(attempt: Attempt, output: str) -> list[Row]:
    """The rows that a states output covers: a whole split, or one block of train."""
    split = output.split("-")[0]
    rows = read_rows(attempt.input("data").file("result", f"rows/{split}.parquet"))
    if split != "train" or output == "train-all":
        return rows
    start = int(output.removeprefix("train-")) * BLOCK_ROWS
    return rows[start : start + BLOCK_ROWS]
