"""Tables as CSV, Parquet or JSON lines, written a part at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import compute, csv, parquet

from lwspec.report.export.tables import TEXT, Flat

_FORMULA = r"^([=+\-@\t\r])"
"""How a text begins that a spreadsheet would compute."""


Write = Callable[[pyarrow.Table], Any]
Writing = Callable[[Path, pyarrow.Schema], AbstractContextManager[Write]]


def write_files(tables: Sequence[Flat], folder: Path, form: str) -> list[Path]:
    """One file a table, in place of those of an earlier export."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(table, folder / f"{table.name}.{form}", FORMATS[form]) for table in tables]


def _write(table: Flat, path: Path, writing: Writing) -> Path:
    """The file is whole, or as it was."""
    scratch = path.with_name(f".{path.name}.part")
    with writing(scratch, table.schema) as write:
        for part in table.parts:
            write(part)
    return scratch.replace(path)


@contextmanager
def _csv(path: Path, schema: pyarrow.Schema) -> Iterator[Write]:
    """A text that a spreadsheet would compute has an apostrophe before it."""
    with csv.CSVWriter(path, schema) as writer:

        def write(part: pyarrow.Table) -> None:
            columns = [
                compute.replace_substring_regex(column, _FORMULA, r"'\1")
                if column.type == TEXT
                else column
                for column in part.columns
            ]
            writer.write_table(pyarrow.table(columns, schema=schema))

        yield write


@contextmanager
def _parquet(path: Path, schema: pyarrow.Schema) -> Iterator[Write]:
    with parquet.ParquetWriter(path, schema) as writer:
        yield writer.write_table


@contextmanager
def _jsonl(path: Path, schema: pyarrow.Schema) -> Iterator[Write]:
    with path.open("w", encoding="utf-8") as file:

        def write(part: pyarrow.Table) -> None:
            for row in part.to_pylist():
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

        yield write


FORMATS: dict[str, Writing] = {"csv": _csv, "parquet": _parquet, "jsonl": _jsonl}
