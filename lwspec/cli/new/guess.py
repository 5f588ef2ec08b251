"""What a table of rows may be as a task: guessed from its columns, and said why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

from lwspec.errors import DataError

MOST_LABELS = 20
LONGEST_LABEL = 40
CHARS_PER_TOKEN = 3
"""Rather too few, so that prompts are rather not cut."""

LABELS = "label labels class category coarse_label sentiment topic target answer y".split()
TEXTS = "summary target answer output response completion highlights headline title label".split()
"""Names that columns of answers have, the likeliest first."""

Column = Sequence[Any]


@dataclass(frozen=True)
class Guess:
    """A task's kind and columns, with reasons for the comments of a spec."""

    kind: Literal["classification", "generation"]
    context: str
    why_context: str
    answer: str
    why_answer: str
    labels: tuple[str, ...]
    note: str
    """What a person should know of the labels."""
    prompt_tokens: int
    answer_tokens: int
    unused: tuple[str, ...]


def guess(columns: Mapping[str, Column], names: Mapping[str, Sequence[str]], where: str) -> Guess:
    """The task that columns of equal length suggest; `names` are those of labels that are numbers.

    Raises DataError where nothing could be the text, or the answer.
    """
    texts = {name: column for name, column in columns.items() if _is_text(name, column)}
    few = [name for name, column in columns.items() if _is_label(column)]
    many = [name for name in texts if name not in few]
    by_length = sorted(many, key=lambda name: -_mean_length(texts[name]))
    if not by_length:
        raise DataError(
            "no column holds texts that differ from row to row, without gaps, under a name of "
            f"letters, digits and underscores: there are {', '.join(map(repr, columns))}",
            where=where,
            remedy="rename the column of texts, and fill its gaps or drop the rows",
        )
    context = by_length[0]
    rest = [name for name in by_length if name != context]
    kind, answer, why = _answer(few, rest, columns, where)
    labels, note = ((), "") if kind == "generation" else _labels(columns[answer], names.get(answer))
    unused = tuple(name for name in columns if name not in (context, answer))
    return Guess(
        kind,
        context,
        "the longest text" if rest else "the only column of texts",
        answer,
        why,
        labels,
        note,
        _tokens(texts[context], least=64) + 32,  # with the words around it
        _tokens(columns[answer], least=8) if kind == "generation" else 0,
        unused,
    )


def _answer(
    few: Sequence[str], texts: Sequence[str], columns: Mapping[str, Column], where: str
) -> tuple[Literal["classification", "generation"], str, str]:
    """The kind of task, the column of its answers, and why."""

    def values(name: str) -> str:
        return f"{len(set(columns[name]))} values in {len(columns[name])} rows"

    for name in LABELS:
        if name in few:
            return "classification", name, f"{values(name)}, and its name"
    for name in TEXTS:
        if name in texts:
            return "generation", name, "texts, and its name"
    if few:
        return "classification", few[-1], values(few[-1])
    if texts:
        return "generation", texts[0], "the next longest text"
    raise DataError(
        f"no column could be the answer: none of {', '.join(map(repr, columns))} has 2 to "
        f"{MOST_LABELS} values, each in several rows, nor is there a second column of texts",
        where=where,
        remedy="add a column with a label, or the text that should be written, for every row",
    )


def _labels(column: Column, names: Sequence[str] | None) -> tuple[tuple[str, ...], str]:
    """The labels as a spec lists them: numbers are indices into the list."""
    if names is not None:
        return tuple(names), "the names that the file has for them"
    if isinstance(column[0], bool):
        return ("no", "yes"), "false, true"
    if isinstance(column[0], int):
        note = "by their numbers, from 0: put in words that the models would say"
        return tuple(map(str, range(max(column) + 1))), note
    return tuple(sorted(set(column))), ""


def _is_text(name: str, column: Column) -> bool:
    """Whether a prompt can name the column and every row has a text there."""
    told = all(isinstance(value, str) and value.strip() for value in column)
    return re.fullmatch(r"\w+", name) is not None and told


def _is_label(column: Column) -> bool:
    """Whether a column has few values, each in several rows, that a spec can list."""
    if not all(isinstance(value, str | int) for value in column):
        return False
    values = set(column)
    if not 2 <= len(values) <= min(MOST_LABELS, len(column) // 2):
        return False
    if len({type(value) for value in values}) > 1:
        return False
    if isinstance(column[0], int):
        return all(0 <= value < MOST_LABELS for value in values)
    return all(0 < len(value) <= LONGEST_LABEL for value in values)


def _mean_length(column: Column) -> float:
    return sum(map(len, column)) / len(column)


def _tokens(column: Column, least: int) -> int:
    """A round number of tokens that holds 19 of 20 texts."""
    lengths = sorted(map(len, column))
    wanted = lengths[(len(lengths) - 1) * 19 // 20] / CHARS_PER_TOKEN
    return max(least, 32 * ceil(wanted / 32))
