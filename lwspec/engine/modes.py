"""The modes of what is made: nobody else writes to it, and kept code is the user's alone."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_WRITTEN_BY_ANYBODY = 0o002


def keep_the_world_out() -> None:
    """Let this process and its children make nothing that anybody may write to.

    The user's umask stands otherwise; it can only become stricter.
    """
    before = os.umask(0o077)  # which has to be set to be read
    os.umask(before | _WRITTEN_BY_ANYBODY)


def like_its_folder(path: Path) -> None:
    """Let those read a file who may read its folder: safetensors lets its user alone.

    The folder has what the umask left; the umask itself is set to be read, which threads would see.
    """
    with suppress(PermissionError):  # of file systems that keep no modes
        path.chmod(path.parent.stat().st_mode & 0o666)


def own_cache(name: str) -> Path:
    """A folder of the user's cache that nobody else may look into, for code that is run again."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "lwspec" / name
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder
