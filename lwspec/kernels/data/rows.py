"""Rows of a task: read once, checked, split and shuffled into one file a split.

Every job of a task reads these files, so that all arms see the same rows in the same order.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from lwspec.engine.fields import PLACEHOLDER
from lwspec.errors import DataError, nearest
from lwspec.kernels.attempt import Attempt
from lwspec.kernels.data.adapters import adapt
from lwspec.kernels.data.sources import read_sources

SPLITS = ("test", "validation", "train")
"""In the order in which they take rows, so that train never holds what the others hold."""

_TEXT = pyarrow.string()


@dataclass(frozen=True)
class Row:
    """One item: its number in the source split, what the sender reads, what should be answered."""

    item: int
    context: str
    target: str
    """The label's name, or the text that should be written."""
    label: int
    """The label's index; -1 where the answer is free text."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """The other columns that the task's prompts or query name."""
    accepted: tuple[str, ...] = ()
    """Every answer that counts as right, where the data name more than the target."""


def read_rows(path: Path) -> list[Row]:
    """Rows that `prepare_rows` wrote."""
    return [
        Row(
            row["item"],
            row["context"],
            row["target"],
            row["label"],
            json.loads(row["fields"]),
            tuple(row["accepted"]),
        )
        for row in parquet.read_table(path).to_pylist()
    ]


def prepare_rows(attempt: Attempt) -> None:
    """Read, check, split, and write train, validation and test."""
    settings = attempt.job.settings
    sources = read_sources(attempt)
    checked = {name: _check(rows, name, settings) for name, rows in sources.items()}
    splits, left_out = split_rows(checked, settings["splits"], settings["sample_seed"])
    files: list[Path] = []
    facts: dict[str, Any] = {"left_out": left_out, "labels": {}, "rows": {}}
    for name, rows in splits.items():
        if not rows:
            raise DataError(f"the split {name!r} is empty")
        _check_answers(name, rows, settings["kind"])
        path = attempt.path / "rows" / f"{name}.parquet"
        _write(path, rows)
        files.append(path)
        counts = Counter(row.label for row in rows)
        facts["rows"][name] = len(rows)
        facts["labels"][name] = [counts[index] for index in range(len(settings.get("labels", ())))]
    attempt.take("result", files, {f"{n}_rows": len(r) for n, r in splits.items()}, facts)


def _check_answers(split: str, rows: Sequence[Row], kind: str) -> None:
    """Raise DataError where every row asks for one and the same answer."""
    if len({row.target for row in rows}) > 1 or (kind == "generation" and len(rows) == 1):
        return
    what, remedy = "target", "check `target`, and `data.adapter` where there is one"
    if kind == "classification":
        what = "label"
        remedy = "check `label` and `splits`; a split taken from sorted rows has one label"
    raise DataError(
        f"all {len(rows)} rows of {split} have the {what} {rows[0].target!r}: nothing could be "
        "told apart",
        remedy=remedy,
    )


def _write(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(exist_ok=True)
    columns = {
        "item": [row.item for row in rows],
        "context": [row.context for row in rows],
        "target": [row.target for row in rows],
        "label": [row.label for row in rows],
        "fields": [json.dumps(dict(row.fields)) for row in rows],
        "accepted": pyarrow.array([list(row.accepted) for row in rows], pyarrow.list_(_TEXT)),
    }
    parquet.write_table(pyarrow.table(columns), path)


def _check(raw: Sequence[Mapping[str, Any]], split: str, settings: Mapping[str, Any]) -> list[Row]:
    """Rendered rows. Raises DataError for a missing column or a label that the task lacks."""
    rows = []
    for index, row in enumerate(raw):
        where = f"split {split!r}, row {index}"
        row = adapt(settings["data"].get("adapter"), row, where)
        context = _render(settings["context"], row, where)[: settings["max_context_chars"]]
        fields = {name: _render(f"{{{name}}}", row, where) for name in settings["columns"]}
        if settings["kind"] == "generation":
            target, label = _render(settings["target"], row, where), -1
        else:
            label = _label(row, where, settings)
            target = settings["labels"][label]
        rows.append(Row(index, context, target, label, fields, _accepted(row, where, settings)))
    return rows


def _accepted(row: Mapping[str, Any], where: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Every right answer, from the column that lists them. Raises DataError for an empty list."""
    name = settings.get("accepted")
    if name is None:
        return ()
    found = _column(row, name, where)
    if not isinstance(found, list) or not found:
        raise DataError(f"{where}: column {name!r} is no list of accepted answers")
    return tuple(str(answer) for answer in found)


def _render(template: str, row: Mapping[str, Any], where: str) -> str:
    def value(match: re.Match[str]) -> str:
        found = _column(row, match[1], where)
        if found is None:
            raise DataError(f"{where}: column {match[1]!r} is empty")
        return str(found)

    return PLACEHOLDER.sub(value, template)


def _column(row: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in row:
        raise DataError(
            f"{where} has no column {name!r}: it has {', '.join(map(repr, row))}",
            nearest=nearest(name, row),
        )
    return row[name]


def _label(row: Mapping[str, Any], where: str, settings: Mapping[str, Any]) -> int:
    """The label's index, from an index or a name."""
    labels: list[str] = settings["labels"]
    value = _column(row, settings["label"], where)
    if isinstance(value, int) and 0 <= value < len(labels):
        return int(value)  # true and false are 1 and 0
    if isinstance(value, str) and value in labels:
        return labels.index(value)
    raise DataError(
        f"{where}: the label {value!r} is not among the task's {len(labels)} labels "
        f"({', '.join(labels)})",
        remedy="add it to `labels`, in the order of the data's indices",
    )


def split_rows(
    sources: Mapping[str, Sequence[Row]], splits: Mapping[str, Mapping[str, Any]], seed: int
) -> tuple[dict[str, list[Row]], int]:
    """Disjoint splits, by content, in an order that only `seed` decides.

    A split with a number of rows draws them from its source; one without takes what is left. Rows
    whose text stands in a split that was filled before are passed over: test comes first and keeps
    every row, then validation, then train. Also returned is how many rows no split took for that.
    """
    taken: dict[str, set[int]] = {name: set() for name in sources}
    seen: set[bytes] = set()
    chosen: dict[str, list[Row]] = {}
    for name in sorted(SPLITS, key=lambda name: _waits(name, splits)):
        source, wanted = splits[name]["source"], splits[name]["rows"]
        free = [row for row in sources[source] if row.item not in taken[source]]
        fresh = [row for row in free if content(row) not in seen]
        random.Random(f"{seed} {source} {name}").shuffle(fresh)
        if wanted is not None and wanted > len(fresh):
            raise DataError(
                f"{name} asks for {wanted} rows of {source!r}; {len(fresh)} are left for it",
                remedy="ask for fewer rows",
            )
        chosen[name] = fresh[:wanted]
        taken[source].update(row.item for row in chosen[name])
        seen.update(content(row) for row in chosen[name])
    chosen["test"].sort(key=lambda row: row.item)
    left_out = sum(
        row.item not in taken[split["source"]] and content(row) in seen
        for split in splits.values()
        if split["rows"] is None
        for row in sources[split["source"]]
    )
    return {name: chosen[name] for name in SPLITS}, left_out


def _waits(name: str, splits: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a split takes what others leave of its source, and so must be filled after them."""
    others = [split["source"] for other, split in splits.items() if other != name]
    return splits[name]["rows"] is None and splits[name]["source"] in others


def content(row: Row) -> bytes:
    """A fingerprint of the text, blind to case and spacing."""
    return hashlib.sha256(" ".join(row.context.lower().split()).encode()).digest()
