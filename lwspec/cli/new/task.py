"""Tasks of a new spec, as TOML: known ones by name, others guessed from a file of rows."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from lwspec.cli.new.guess import Guess, guess
from lwspec.cli.new.templates import render
from lwspec.errors import DataError, UsageError, nearest

LOADERS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
SPECS = ("quickstart.toml", "final.toml")
"""Whose tasks are known by name."""

LEAST_TEXTS = 30
MOST_TEST, MOST_VALIDATION = 1000, 500
LONGEST_CHOICES = 60
"""Characters of labels that a prompt lists."""
SPARE_TOKENS = 16
"""Of a model's window: for a query, and some soft tokens."""

NAMELESS = set("label labels class target answer output response completion y".split())
"""Columns whose names tell a model nothing of what is asked."""


@dataclass(frozen=True)
class NewTask:
    """A task's name, kind and TOML."""

    name: str
    kind: str
    text: str


def known_tasks() -> dict[str, str]:
    """The tables of the tasks in lwspec's own specs, by name."""
    found: dict[str, str] = {}
    for spec in SPECS:
        text = (files("lwspec.cli.new") / "templates" / spec).read_text(encoding="utf-8")
        for table in re.finditer(r"^\[tasks\.([\w-]+)\].*?(?=^\[|\Z)", text, re.M | re.S):
            found[table[1]] = table[0].rstrip()
    return found


def new_task(argument: str, spec: Path, window: int | None) -> NewTask:
    """The task of a `--task`; `window` is how many tokens both models read, where that is known.

    Raises UsageError or DataError.
    """
    name, given, listed = argument.partition("=")
    if not given:
        known = known_tasks()
        if name not in known:
            raise UsageError(
                f"there is no known task {name!r}",
                nearest=nearest(name, known),
                remedy=f"one of {', '.join(known)}; or --task {name}=FILE with rows of your own",
            )
        kind = re.search(r'^kind = "(\w+)"', known[name], re.M)
        assert kind is not None
        return NewTask(name, kind[1], known[name])
    parts = [Path(part) for part in listed.split(",")]
    if len(parts) > 2:
        raise UsageError(f"--task {argument}: at most two files, of train and of test rows")
    data = dict(zip(("train", "test"), parts, strict=False))
    return _guessed(name, data, spec, window)


def _guessed(name: str, data: Mapping[str, Path], spec: Path, window: int | None) -> NewTask:
    loader = _loader(list(data.values()))
    rows, names = _read(loader, data)
    where = ", ".join(map(str, data.values()))
    columns = {column: [v for split in rows.values() for v in split[column]] for column in names}
    guessed = guess(columns, {c: n for c, n in names.items() if n is not None}, where)
    texts = {split: _distinct(table[guessed.context]) for split, table in rows.items()}
    asked = guessed.answer if guessed.answer.lower() not in NAMELESS else name
    asked = asked.replace("_", " ").strip().capitalize()
    answer_tokens = max(guessed.answer_tokens, SPARE_TOKENS // 2)
    room = None if window is None else max(SPARE_TOKENS, window - answer_tokens - SPARE_TOKENS // 2)
    text = render(
        "task.toml.jinja",
        name=name,
        file=where,
        rows=sum(len(table[guessed.context]) for table in rows.values()),
        guess=guessed,
        loader=loader,
        files={split: os.path.relpath(path, spec.parent) for split, path in data.items()},
        splits=_splits(texts, where),
        asked=asked,
        prompt=f"Text: {{context}}\n{asked}{_choices(guessed)}:",
        prompt_tokens=min(guessed.prompt_tokens, room or guessed.prompt_tokens),
    )
    return NewTask(name, guessed.kind, text.rstrip())


def _loader(paths: Sequence[Path]) -> str:
    for path in paths:
        if not path.is_file():
            siblings = [str(other) for other in path.parent.glob("*") if other.suffix in LOADERS]
            raise UsageError(f"there is no file {path}", nearest=nearest(str(path), siblings))
        if path.suffix not in LOADERS:
            raise UsageError(
                f"{path} has none of the endings {', '.join(LOADERS)}",
                remedy="write the rows as CSV with a line of column names, or as JSON lines",
            )
    loaders = {LOADERS[path.suffix] for path in paths}
    if len(loaders) > 1:
        raise UsageError(
            f"train and test rows are of one kind of file, not {' and '.join(sorted(loaders))}"
        )
    return loaders.pop()


def _read(
    loader: str, data: Mapping[str, Path]
) -> tuple[dict[str, dict[str, list[Any]]], dict[str, list[str] | None]]:
    """Each split's columns as its job will read them, and columns with the names of their values.

    Raises DataError for a file that cannot be read.
    """
    import datasets
    from datasets.exceptions import DatasetsError

    datasets.disable_progress_bars()
    named = {split: str(path) for split, path in data.items()}
    with tempfile.TemporaryDirectory() as scratch:
        try:
            loaded = datasets.load_dataset(loader, data_files=named, cache_dir=scratch)
        except (DatasetsError, OSError, ValueError) as error:
            first = str(error.__cause__ or error).strip().splitlines()[0]
            raise DataError(
                f"cannot read the rows: {first}",
                where=", ".join(named.values()),
                remedy="every file holds rows with the same columns",
            ) from None
        rows = {split: loaded[split].to_dict() for split in data}
        features = loaded["train"].features
    return rows, {column: getattr(kind, "names", None) for column, kind in features.items()}


def _distinct(texts: Sequence[str]) -> set[str]:
    """Texts as splits compare them: blind to case and spacing."""
    return {" ".join(text.lower().split()) for text in texts}


def _splits(texts: Mapping[str, set[str]], where: str) -> str:
    """Validation, and test where there is no file of it, carved out of train.

    Raises DataError for too few texts.
    """
    own = texts["train"] - texts.get("test", set())
    if len(own) < LEAST_TEXTS:
        raise DataError(
            f"{len(own)} different texts to train on: at least {LEAST_TEXTS} are needed",
            where=where,
        )
    rows = min(MOST_VALIDATION, len(own) // 10)
    test = '"test"'
    if "test" not in texts:
        test = f'{{ from = "train", rows = {min(MOST_TEST, len(own) // 5)} }}'
    return f'{{ train = "train", validation = {{ from = "train", rows = {rows} }}, test = {test} }}'


def _choices(guessed: Guess) -> str:
    """The labels, where they are words and few enough for a prompt."""
    labels = guessed.labels
    words = bool(labels) and not any(label.isdigit() for label in labels)
    if not words or len(", ".join(labels)) > LONGEST_CHOICES:
        return ""
    listed = labels if len(labels) == 2 else (*(f"{label}," for label in labels[:-1]), labels[-1])
    return f" ({' '.join(listed[:-1])} or {listed[-1]})"
