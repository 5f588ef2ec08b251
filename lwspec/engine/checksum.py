"""Records that hold a checksum of themselves, so that one changed number in them is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

KEY = "checksum"


def with_checksum(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with the checksum of all else in it."""
    return {**record, KEY: _checksum(record)}


def is_intact(record: Mapping[str, Any]) -> bool:
    """Whether a record as it was read is the one that was written; True where it holds no checksum.

    Those that an earlier lwspec wrote hold none.
    """
    return KEY not in record or record[KEY] == _checksum(record)


def _checksum(record: Mapping[str, Any]) -> str:
    """Of what a reader of the JSON gets: keys are texts there, and sorted as such."""
    read = json.loads(json.dumps({key: record[key] for key in record if key != KEY}))
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()
