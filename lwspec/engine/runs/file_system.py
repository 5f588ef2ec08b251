"""Which file systems several machines may share, as far as their kinds tell."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/mounts")
_OCTAL = re.compile(r"\\([0-7]{3})")
"""A blank in a name, as the file writes it."""

NETWORKED = (
    "nfs", "lustre", "gpfs", "beegfs", "ceph", "wekafs", "panfs", "afs", "9p", "smb", "cifs",
    "fuse", "orangefs", "pvfs", "glusterfs", "virtiofs", "juicefs",
)  # fmt: skip
"""File systems that several nodes may share, by how their names begin."""


def file_system(path: Path, mounts: str) -> tuple[str, str]:
    """Where the file system of a path is mounted, and its kind, from the text of /proc/mounts."""
    kinds, whole = file_systems(mounts), path.resolve()
    place = next((str(p) for p in (whole, *whole.parents) if str(p) in kinds), "/")
    return place, kinds.get(place, "unknown")


def file_systems(mounts: str) -> dict[str, str]:
    """The kind of each file system, by where it is mounted."""
    rows = map(str.split, mounts.splitlines())
    return {_OCTAL.sub(lambda m: chr(int(m[1], 8)), point): kind for _, point, kind, *_ in rows}


def mounts() -> str:
    """What is mounted on this machine; on one that does not say, nothing."""
    return MOUNTS.read_text("utf-8", "surrogateescape") if MOUNTS.exists() else ""


def may_be_shared(path: Path, mounts: str) -> bool:
    """Whether other machines may see a path too: also where its file system is not known."""
    _, kind = file_system(path, mounts)
    return kind == "unknown" or kind.startswith(NETWORKED)
