"""Secrets out of texts that are kept: messages, logs, diffs.

A secret is the value of an environment variable whose name says so, or what looks like one by
itself: a token of a known form, a password in an address, what follows `Authorization:`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TextIO

_NAME = re.compile(
    r"(^|_|^PG)(TOKEN|KEY|SECRET|PASSWORD|PASSWD|PASSPHRASE|PASS|PAT|CREDENTIALS?|JWT|AUTH)$",
    re.IGNORECASE,
)
_LEAST_LENGTH = 6
"""A shorter value stands in too many words to be looked for."""

REMOVED = "[removed"
"""How what stands in a secret's place begins."""
_REMOVED = f"{REMOVED}]"
_FORMS = (
    (re.compile(r"(\w://)[^\s/'\"]+@"), rf"\1{_REMOVED}@"),
    (re.compile(r"(\bauthorization['\"]?\s*[:=]\s*['\"]?)(\w+\s+)?[^\s'\",]+", re.IGNORECASE),
     rf"\1{_REMOVED}"),
    (re.compile(r"([?&][\w-]*(?:token|key|secret|password|signature|sig)=)[^\s&'\"#]+",
                re.IGNORECASE), rf"\1{_REMOVED}"),
    (re.compile(r"\b(?:hf_[A-Za-z0-9]{16,}|gh[opsur]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"
                r"|sk-[\w-]{20,}|(?:AKIA|ASIA)[A-Z0-9]{16}|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}"
                r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]+)"), _REMOVED),
)  # fmt: skip


def is_secret(name: str) -> bool:
    """Whether a variable of this name holds a secret."""
    return bool(_NAME.search(name))


def redact(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """The text without what looks like a secret, or is the value of one in the environment."""
    held = {
        value: name
        for name, value in environment.items()
        if is_secret(name) and len(value) >= _LEAST_LENGTH
    }
    for value in sorted(held, key=len, reverse=True):
        text = text.replace(value, f"{REMOVED}: {held[value]}]")
    for form, instead in _FORMS:
        text = form.sub(instead, text)
    return text


def read_redacted(log: Path, last_bytes: int | None = None) -> str:
    """A log, or the whole lines among its last bytes, as it may be shown."""
    before = 0 if last_bytes is None else max(0, log.stat().st_size - last_bytes)
    with log.open("rb") as file:
        file.seek(before)
        if before:
            file.readline()  # it may be cut within a secret
        return redact(file.read().decode("utf-8", errors="replace"))


def redact_stream(stream: TextIO) -> None:
    """Redact what is written to a stream from now on, by whoever holds it already.

    Each write is looked at by itself. What C code and other programs print goes by, as it goes by
    Python's streams: `read_redacted` is for logs that are shown.
    """
    stream.write = partial(_write_redacted, stream.write)  # type: ignore[method-assign]


def _write_redacted(write: Callable[[str], int], text: str) -> int:
    write(redact(text))
    return len(text)
