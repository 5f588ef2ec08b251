"""Hashes of files, and records that hold a checksum of themselves: what has changed is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

KEY = "checksum"


def with_checksum(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with the checksum of all else in it."""
    return {**record, KEY: _checksum(record)}


def is_intact(record: Mapping[str, Any]) -> bool:
    """Whether a record as it was read holds the checksum of all else in it."""
    return record.get(KEY) == _checksum(record)


def _checksum(record: Mapping[str, Any]) -> str:
    """Of what a reader of the JSON gets: keys are texts there, and sorted as such."""
    read = json.loads(json.dumps({key: record[key] for key in record if key != KEY}))
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_once(path: Path) -> str:
    """The same, read again only where the file has changed since this process last looked."""
    return _sha256_at(path, path.stat().st_mtime_ns)


def differs(path: Path, sha256: str, hash_of: Callable[[Path], str] = sha256_of) -> str | None:
    """What became of a file since it was hashed; None where it is what it was."""
    if not path.is_file():
        return "is gone"
    return None if hash_of(path) == sha256 else "has changed since it was recorded"


@cache
def _sha256_at(path: Path, mtime_ns: int) -> str:
    return sha256_of(path)
