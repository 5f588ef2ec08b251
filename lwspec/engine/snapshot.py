"""A copy of lwspec's code for jobs that start later: what was submitted is what runs."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from lwspec.engine.evidence import PACKAGE, git_state
from lwspec.engine.runfolder import Runs, write_json


def digest(package: Path) -> str:
    """Names the code in a package's folder."""
    whole = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        whole.update(f"{file.relative_to(package)}\0".encode() + file.read_bytes() + b"\0")
    return whole.hexdigest()[:16]


def take_snapshot(runs: Runs) -> Path:
    """Copy this code below runs/code, once for each version of it; the folder to import it from."""
    name = digest(PACKAGE)
    home = runs.path / "code" / name
    if (home / "code.json").exists():
        return home
    shutil.copytree(
        PACKAGE,
        home / PACKAGE.name,
        ignore=shutil.ignore_patterns("__pycache__"),
        dirs_exist_ok=True,
    )
    write_json(home / "code.json", {"digest": name, **git_state(PACKAGE.parent)})
    return home
