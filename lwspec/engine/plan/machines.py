"""What `lwspec bench` measured: a file for each unit of budgets in the run folders.

runs/machines/h200.json
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lwspec.engine.plan.cost import Machine
from lwspec.engine.runs.jsonfile import read_json, write_json
from lwspec.engine.runs.runfolder import Runs
from lwspec.errors import RunFolderError


@dataclass(frozen=True)
class Benched:
    """A machine's rates, with what they were measured on and when."""

    unit: str
    hardware: str
    measured_at: float
    machine: Machine
    evidence: Mapping[str, Any]
    """Command, commit, host, versions."""


_BENCHED = TypeAdapter(Benched)


def keep(runs: Runs, benched: Benched) -> None:
    """Record it, in the place of what was measured of the same unit before."""
    path = runs.path / "machines" / f"{benched.unit}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**vars(benched), "machine": vars(benched.machine)})


def kept(runs: Runs, unit: str) -> Benched | None:
    """What was measured of a unit last. Raises RunFolderError where the file is unreadable."""
    path = runs.path / "machines" / f"{unit}.json"
    if not path.exists():
        return None
    raw = read_json(path)
    try:
        return _BENCHED.validate_python(raw)
    except ValidationError as error:
        what = error.errors(include_url=False, include_input=False)[0]
        at = ".".join(map(str, what["loc"]))
        raise RunFolderError(
            f"unreadable: {at}: {what['msg']}",
            where=str(path),
            remedy="lwspec bench writes it anew",
        ) from None
