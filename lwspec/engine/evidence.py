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

PACKAGE = Path(lwspec.__file__).parent
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


@cache
def git_state(folder: Path) -> dict[str, Any]:
    """Commit of the checkout that holds lwspec in `folder`, and uncommitted changes to its code.

    Where lwspec is installed and not tracked, the commit is None: then version and source hashes
    are the evidence. A snapshot says what it is a copy of.
    """
    snapshot = folder / "code.json"
    if snapshot.exists():
        taken: dict[str, Any] = json.loads(snapshot.read_text(encoding="utf-8"))
        return {key: taken[key] for key in ("git_sha", "dirty", "diff")}
    sha = _git(folder, "rev-parse", "HEAD")
    tracked = _git(folder, "ls-files", "--error-unmatch", "lwspec/__init__.py")
    if sha is None or tracked is None:
        return {"git_sha": None, "dirty": None, "diff": ""}
    diff = _git(folder, "diff", "HEAD", "--", "lwspec") or ""
    new = _git(folder, "ls-files", "--others", "--exclude-standard", "--", "lwspec") or ""
    for name in new.split():
        if name.endswith(".py"):
            diff += f"\n--- untracked {name}\n{(folder / name).read_text(errors='replace')}"
    return {"git_sha": sha.strip(), "dirty": bool(diff.strip()), "diff": redact(diff)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


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
