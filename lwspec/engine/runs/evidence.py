"""Evidence of an attempt: what ran, from which code, with which packages, on which machine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import socket
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import lwspec
from lwspec import __version__
from lwspec.engine.redact import redact
from lwspec.errors import CodeError

PACKAGE = Path(lwspec.__file__).parent
NOT_OF_JOBS = ("api.py", "cli", "report")
"""What of the package no job imports."""
RECORDED_PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "safetensors",
    "numpy",
    "scikit-learn",
    "accelerate",
    "peft",
    "rouge-score",
    "llmlingua",
    "pyarrow",
)


@cache
def source_files() -> dict[str, str]:
    """Each source file below lwspec/kernels and the start of its SHA-256."""
    folder = PACKAGE / "kernels"
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        for file in sorted(folder.rglob("*.py"))
    }


def relevant_sources(step: str, files: dict[str, str]) -> dict[str, str]:
    """The source files that can change a job's numbers: all but other arms' and, mostly, toys'."""
    own = {f"arms/{step}.py"}
    if step == "toy":
        return {name: sha for name, sha in files.items() if name.startswith("toy/")}
    others = ("arms/",) if step == "data" else ("arms/", "toy/")
    return {name: sha for name, sha in files.items() if name in own or not name.startswith(others)}


def digest_of(package: Path) -> str:
    """Names the code of a package's folder that jobs import."""
    whole = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        name = file.relative_to(package)
        if name.parts[0] not in NOT_OF_JOBS:
            whole.update(f"{name}\0".encode() + file.read_bytes() + b"\0")
    return whole.hexdigest()[:16]


@cache
def code_digest() -> str:
    """Names the code of this process, as it was when this was first asked."""
    return digest_of(PACKAGE)


def check_code(submitted: str | None) -> None:
    """Raise CodeError where this process runs other code; None lets any run, and is recorded."""
    if submitted is not None and code_digest() != submitted:
        raise CodeError(
            "this is not the code that was submitted",
            where=str(PACKAGE),
            remedy="submit again, or submit --no-snapshot to run the code as it is when jobs start",
        )


@cache
def git_state(folder: Path) -> dict[str, Any]:
    """Commit of the checkout that holds lwspec in `folder`, and uncommitted changes to its code.

    The changes are a patch for `git apply` at the top of the checkout. Where lwspec is installed
    and not tracked, the commit is None: then version and source hashes are the evidence. A snapshot
    says what it is a copy of.
    """
    snapshot = folder / "code.json"
    if snapshot.exists():
        taken: dict[str, Any] = json.loads(snapshot.read_text(encoding="utf-8"))
        return {key: taken[key] for key in ("git_sha", "dirty", "diff")}
    nothing = {"git_sha": None, "dirty": None, "diff": ""}
    told = _git(folder, "rev-parse", "HEAD", "--show-toplevel", "--show-prefix")
    tracked = _git(folder, "ls-files", "--error-unmatch", "lwspec/__init__.py")
    if told is None or tracked is None:
        return nothing
    sha, top, prefix = told.split("\n")[:3]
    diff = _git(Path(top), *_DIFF, "HEAD", "--", f"{prefix}lwspec")
    new = _git(Path(top), "ls-files", "-z", "--others", "--", f"{prefix}lwspec/*.py")
    if diff is None or new is None:  # a commit without its changes would be another's code
        return nothing
    for name in filter(None, new.split("\0")):  # ignored files too: Python imports them
        diff += _git(Path(top), *_DIFF, "--no-index", "--", os.devnull, name, differs=True) or ""
    return {"git_sha": sha, "dirty": bool(diff), "diff": redact(diff)}


def is_committed(file: Path) -> bool | None:
    """Whether git has a file as it is now; None where it lies in no repository."""
    changed = _git(file.parent, "status", "--porcelain", "--ignored", "--", file.name)
    return None if changed is None else not changed


_DIFF = ("diff", "--no-ext-diff", "--no-textconv", "--no-color", "--binary")
_WITH_PREFIXES = ("-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false")


def _git(folder: Path, *arguments: str, differs: bool = False) -> str | None:
    """What git says; None where it fails, which exit status 1 is not where files differ."""
    try:
        done = subprocess.run(
            ["git", *_WITH_PREFIXES, *arguments],
            cwd=folder,
            capture_output=True,
            timeout=30,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    if done.returncode not in ((0, 1) if differs else (0,)):
        return None
    return done.stdout.decode(errors="surrogateescape")


def machine() -> dict[str, Any]:
    """The host and its processor."""
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


@cache
def packages() -> dict[str, str]:
    """Versions of the packages that can change numbers."""
    found = {"lwspec": __version__}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
