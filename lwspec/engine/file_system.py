"""Which file systems several machines may share, as far as their kinds tell."""

from __future__ import annotations

from pathlib import Path

MOUNTS = Path("/proc/mounts")

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
    return {point: kind for _, point, kind, *_ in map(str.split, mounts.splitlines())}


def may_be_shared(path: Path, mounts: str) -> bool:
    """Whether other machines may see a path too: also where its file system is not known."""
    _, kind = file_system(path, mounts)
    return kind == "unknown" or kind.startswith(NETWORKED)
