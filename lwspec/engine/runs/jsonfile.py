"""JSON files that are whole or not there; records among them that say when they were changed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lwspec.engine.runs.checksum import KEY, is_intact, with_checksum
from lwspec.errors import RunFolderError

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""Half a character of those beyond the first 65,536, as JSON escapes it."""


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Write JSON so that a reader sees either the old file or the whole new one.

    Without an indent it is written many times faster: for files that hold whole plans.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("w", encoding="utf-8") as file:
            file.write(json.dumps(value, indent=indent, sort_keys=True))
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def may_write(folder: Path) -> bool:
    """Whether files can be made in a folder, or in the nearest above it that is there."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return os.access(there, os.W_OK)


def remember_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Write what can be made anew at any time, and is where its folder is an archive's."""
    if may_write(path.parent):
        write_json(path, value, indent=indent)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises RunFolderError where it is none."""
    try:
        value = parsed(path.read_bytes())
    except FileNotFoundError:
        raise RunFolderError("the file is missing", where=str(path)) from None
    except (OSError, ValueError) as error:
        raise RunFolderError(f"unreadable: {error}", where=str(path)) from None
    if not isinstance(value, dict):
        raise RunFolderError("not a JSON object", where=str(path))
    return value


def parsed(raw: bytes) -> Any:
    """JSON from bytes. Raises ValueError where they are none, or where its texts are no texts."""
    try:
        value = json.loads(raw.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if _SURROGATE.search(raw):
        json.dumps(value, ensure_ascii=False).encode()  # raises where a half has no other
    return value


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON object with its checksum."""
    write_json(path, with_checksum(record))


def read_record(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises RunFolderError where it holds a checksum, and has changed since.

    Whether it must hold one, who reads it knows.
    """
    record = read_json(path)
    if KEY in record and not is_intact(record):
        raise RunFolderError("the record has changed since it was written", where=str(path))
    return record
