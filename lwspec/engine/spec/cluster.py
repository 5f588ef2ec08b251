"""The settings of a cluster: a `[cluster.NAME]` table of the spec or of the user's own file."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, field_validator

from lwspec.engine.fields import Frozen, Line, Name, Positive
from lwspec.engine.redact import is_secret
from lwspec.errors import SpecError, UsageError, nearest

DEFAULT = "default"
"""The name of the cluster of which nothing is declared."""

OURS = {
    "job-name", "array", "output", "error", "signal", "dependency", "time", "partition", "account",
    "qos", "constraint", "cpus-per-task", "ntasks-per-node", "nodes", "mem", "gres", "requeue",
    "no-requeue", "open-mode", "kill-on-invalid-dep", "export", "chdir", "wait", "parsable",
    "test-only", "hold", "wrap", "clusters",
}  # fmt: skip
"""Parameters that tracking and the checks rely on."""


_SET = re.compile(r"""\b(\w+)=["']?([^\s"';]+)""")
"""A variable that a line of shell sets, and the beginning of its value."""


class Cluster(Frozen):
    """What an allocation asks SLURM for, beside the GPUs and threads that its jobs need."""

    partition: Line | None = None
    """The cluster's default partition where left out."""
    account: Line | None = None
    """That is charged."""
    qos: Line | None = None
    """Whose limits hold."""
    constraint: Line | None = None
    """Features that a node must have."""
    gpu: Line | None = None
    """The type of GPU, as the cluster's gres names it."""
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    """Host memory of one allocation; by default what the spec's two largest models need."""
    minutes: Positive | None = None
    """The most that one allocation asks for; what takes longer goes on in the next."""
    warning_s: Positive = 90
    """How long before the end a job is told to save a checkpoint: a step and a save."""
    at_once: Positive = 256
    """How many allocations of one array may run at once."""
    modules: Annotated[tuple[Line, ...], Field(strict=False)] = ()
    """What `module load` loads before a job starts."""
    setup: Annotated[tuple[Line, ...], Field(strict=False)] = ()
    """Shell lines before a job starts, after the modules."""
    sbatch: dict[Line, Line | int | bool] = {}
    """Further parameters of sbatch, by their long names without dashes in front."""

    @field_validator("setup")
    @classmethod
    def _no_secret(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name, given in (match.groups() for line in value for match in _SET.finditer(line)):
            if is_secret(name) and not given.startswith("$"):
                raise ValueError(
                    f"the value of {name} would stand in a file of every submission: leave it in "
                    f"the environment that you submit from, or read it, {name}=$(cat FILE)"
                )
        return value

    @field_validator("sbatch")
    @classmethod
    def _not_ours(cls, value: dict[str, str | int | bool]) -> dict[str, str | int | bool]:
        taken = sorted(OURS & {name.replace("_", "-") for name in value})
        if taken:
            raise ValueError(f"{', '.join(taken)}: set by lwspec, or by a key of its own above")
        return value

    shared_runs: bool = False
    """True says that the compute nodes see the run folders, whatever the file system."""


class _File(Frozen):
    cluster: dict[Name, Cluster] = {}


def user_file() -> Path:
    """Where a user's own cluster tables lie."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "lwspec" / "clusters.toml"


def choose(name: str | None, declared: Mapping[str, Cluster]) -> tuple[str, Cluster]:
    """The cluster of a name, or the only one; without any, SLURM's own defaults.

    Tables of the spec go before those of the user's file. Raises UsageError for an unknown name or
    where several are declared and none is named, SpecError for a wrong user file.
    """
    known = {**_of_user(user_file()), **declared}
    if name is None and not known:
        return DEFAULT, Cluster()
    if name is None and len(known) == 1:
        return next(iter(known.items()))
    if name is None:
        raise UsageError(
            f"several clusters are declared: {', '.join(known)}", remedy="--cluster NAME"
        )
    if name not in known:
        raise UsageError(
            f"no cluster {name!r} is declared",
            nearest=nearest(name, known),
            remedy=f"a table [cluster.{name}] in the spec or in {user_file()}",
        )
    return name, known[name]


def _of_user(path: Path) -> Mapping[str, Cluster]:
    if not path.exists():
        return {}
    try:
        return _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).cluster
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SpecError(f"cannot be read: {error}", where=str(path)) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SpecError(f"{place}: {first['msg']}", where=str(path)) from None
