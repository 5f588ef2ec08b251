"""Content fingerprints of weights and data, so that identity never rests on a path."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from lwspec.engine.runs.checksum import KEY, is_intact, with_checksum
from lwspec.engine.runs.jsonfile import remember_json

_CHUNK = 1 << 20
_NOT_WEIGHTS = "README.md"


@dataclass(frozen=True)
class Fingerprint:
    """What a file or folder holds: a hash of its bytes, and how many lines."""

    sha256: str
    lines: int


_KNOWN = TypeAdapter(dict[str, Fingerprint])


class Fingerprints:
    """Fingerprints of local files, remembered by path, size and time of change.

    The memory lies below the runs folder and can be deleted at any time.
    """

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._known: dict[str, Fingerprint] = {}
        self._changed = False
        if memory.exists():
            try:
                kept = json.loads(memory.read_bytes())
                whole = isinstance(kept, dict) and is_intact(kept)
                known = {key: kept[key] for key in kept if key != KEY} if whole else {}
                self._known = _KNOWN.validate_python(known)
            except (OSError, ValueError, RecursionError):
                self._known = {}  # what is damaged is made anew

    def of(self, path: Path) -> Fingerprint:
        """The fingerprint of a file, or of all weights and tokenizer files of a folder."""
        if path.is_dir():
            files = sorted(
                file
                for file in path.rglob("*")
                if file.is_file() and file.name != _NOT_WEIGHTS and not _hidden(file, path)
            )
            whole = hashlib.sha256()
            for file in files:
                whole.update(f"{file.relative_to(path)} {self.of(file).sha256}\n".encode())
            return Fingerprint(whole.hexdigest(), 0)
        state = path.stat()
        key = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}|{state.st_ino}"
        if key not in self._known:
            self._known[key] = _hash_file(path)
            self._changed = True
        return self._known[key]

    def save(self) -> None:
        """Write the memory, if anything was added to it."""
        if self._changed:
            known = {key: asdict(each) for key, each in self._known.items()}
            remember_json(self._memory, with_checksum(known))
            self._changed = False


def _hidden(file: Path, folder: Path) -> bool:
    """Whether a download's bookkeeping (.cache, .git) and not part of the model."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _hash_file(path: Path) -> Fingerprint:
    digest, lines = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            lines += chunk.count(b"\n")
    return Fingerprint(digest.hexdigest(), lines)
