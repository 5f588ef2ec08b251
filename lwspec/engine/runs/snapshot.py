"""A copy of lwspec's code for jobs that start later: what was submitted is what runs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lwspec.engine.runs.evidence import PACKAGE, digest_of, git_state
from lwspec.engine.runs.jsonfile import write_json
from lwspec.engine.runs.runfolder import Runs
from lwspec.errors import UsageError


def take_snapshot(runs: Runs) -> Path:
    """Copy this code below runs/code, once for each version of it; the folder to import it from."""
    name = digest_of(PACKAGE)
    home = runs.path / "code" / name
    about = {"digest": name, **git_state(PACKAGE.parent)}
    if home.exists() and digest_of(home / PACKAGE.name) == name:
        write_json(home / "code.json", about)  # the same code may be committed by now
        return home
    shutil.rmtree(home, ignore_errors=True)  # somebody edited the copy
    scratch = home.with_name(f".{name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(PACKAGE, scratch / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    write_json(scratch / "code.json", about)
    if digest_of(scratch / PACKAGE.name) != name:
        shutil.rmtree(scratch)
        raise UsageError("lwspec's code changed while it was copied", remedy="submit again")
    scratch.rename(home)
    return home


def snapshot_of(runs: Runs, name: str | None) -> Path | None:
    """The copy of a submission, by its digest; None where it had none."""
    return None if name is None else runs.path / "code" / name
