"""Rows of a task: read once, checked, split and shuffled into one file a split.

Every job of a task reads these files, so that all arms see the same rows in the same order.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from lwspec.engine.runfolder import sha256_of
from lwspec.errors import DataError, nearest
from lwspec.kernels.attempt import Attempt

SPLITS = ("test", "validation", "train")
"""In the order in which they take rows, so that train never holds what the others hold."""


@dataclass(frozen=True)
class Row:
    """One item: its number in the source split, what the sender reads, what should be answered."""

    item: int
    context: str
    target: str
    """The label's name, or the text that should be written."""
    label: int
    """The label's index; -1 where the answer is free text."""


def read_rows(folder: Path) -> list[Row]:
    """Rows that `prepare_rows` wrote."""
    return [Row(**row) for row in parquet.read_table(folder).to_pylist()]


def prepare_rows(attempt: Attempt) -> None:
    """Read, check, split, and write train, validation and test."""
    settings = attempt.job.settings
    sources = _read_sources(attempt)
    checked = {name: _check(rows, name, settings) for name, rows in sources.items()}
    splits, left_out = split_rows(checked, settings["splits"], settings["sample_seed"])
    files: list[Path] = []
    facts: dict[str, Any] = {"left_out": left_out, "labels": {}, "rows": {}}
    for name, rows in splits.items():
        if not rows:
            raise DataError(f"the split {name!r} is empty")
        path = attempt.path / "rows" / f"{name}.parquet"
        _write(path, rows)
        files.append(path)
        counts = Counter(row.label for row in rows)
        facts["rows"][name] = len(rows)
        facts["labels"][name] = [counts[index] for index in range(len(settings.get("labels", ())))]
    attempt.take("result", files, {f"{n}_rows": len(r) for n, r in splits.items()}, facts)


def _write(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(exist_ok=True)
    columns = {
        "item": [row.item for row in rows],
        "context": [row.context for row in rows],
        "target": [row.target for row in rows],
        "label": [row.label for row in rows],
    }
    parquet.write_table(pyarrow.table(columns), path)


def _read_sources(attempt: Attempt) -> dict[str, list[dict[str, Any]]]:
    """The raw rows of each source split that the task uses."""
    settings = attempt.job.settings
    data = settings["data"]
    wanted = {split["source"] for split in settings["splits"].values()}
    if "toy" in data:
        from lwspec.kernels.toy.text import rows

        return {name: rows(data["toy"], name) for name in sorted(wanted)}
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    scratch = str(attempt.path / "scratch")
    try:
        if "loader" in data:
            files = {name: attempt.job.places[name] for name in sorted(wanted)}
            for name, file in files.items():
                if sha256_of(Path(file)) != data["files"][name]:
                    raise DataError("the data have changed since they were planned", where=file)
            loaded = load_dataset(data["loader"], data_files=files, cache_dir=scratch)
        else:
            loaded = load_dataset(data["hub"], data["name"], revision=data["revision"])
        return {name: loaded[name].to_list() for name in sorted(wanted)}
    except (DatasetsError, OSError, ValueError, KeyError) as error:
        if isinstance(error, OSError) and error.errno == 28:
            raise
        first = str(error.__cause__ or error).strip().splitlines()[0]
        raise DataError(
            f"cannot load the data: {first}",
            where=", ".join(attempt.job.places.values()),
            remedy="check path and split names; for a hub set, the network and `hf auth login`",
        ) from None
    finally:
        _remove(Path(scratch))


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _check(raw: Sequence[Mapping[str, Any]], split: str, settings: Mapping[str, Any]) -> list[Row]:
    """Rendered rows. Raises DataError for a missing column or a label that the task lacks."""
    rows = []
    for index, row in enumerate(raw):
        where = f"split {split!r}, row {index}"
        context = _render(settings["context"], row, where)
        if settings["kind"] == "generation":
            rows.append(Row(index, context, _render(settings["target"], row, where), -1))
        else:
            label = _label(row, where, settings)
            rows.append(Row(index, context, settings["labels"][label], label))
    return rows


def _render(template: str, row: Mapping[str, Any], where: str) -> str:
    def value(match: re.Match[str]) -> str:
        found = _column(row, match[1], where)
        if found is None:
            raise DataError(f"{where}: column {match[1]!r} is empty")
        return str(found)

    return re.sub(r"\{(\w+)\}", value, template)


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
        return value
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
        fresh = [row for row in free if _content(row) not in seen]
        random.Random(f"{seed} {source} {name}").shuffle(fresh)
        if wanted is not None and wanted > len(fresh):
            raise DataError(
                f"{name} asks for {wanted} rows of {source!r}; {len(fresh)} are left for it",
                remedy="ask for fewer rows",
            )
        chosen[name] = fresh[:wanted]
        taken[source].update(row.item for row in chosen[name])
        seen.update(_content(row) for row in chosen[name])
    chosen["test"].sort(key=lambda row: row.item)
    left_out = sum(
        row.item not in taken[split["source"]] and _content(row) in seen
        for split in splits.values()
        if split["rows"] is None
        for row in sources[split["source"]]
    )
    return {name: chosen[name] for name in SPLITS}, left_out


def _waits(name: str, splits: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a split takes what others leave of its source, and so must be filled after them."""
    others = [split["source"] for other, split in splits.items() if other != name]
    return splits[name]["rows"] is None and splits[name]["source"] in others


def _content(row: Row) -> bytes:
    """A fingerprint of the text, blind to case and spacing."""
    return hashlib.sha256(" ".join(row.context.lower().split()).encode()).digest()
