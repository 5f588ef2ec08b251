"""Which frozen models a job loads, and from where."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lwspec.engine.fingerprint import Fingerprints
from lwspec.errors import ModelError
from lwspec.kernels.attempt import Attempt
from lwspec.kernels.reader import Reader


def load_reader(
    attempt: Attempt, role: str, model: Mapping[str, Any], device: torch.device
) -> Reader:
    """The frozen model of a role: a toy that an input job trained, a folder, or a hub id."""
    if "toy" in model:
        made = attempt.input(role)
        path = made.file("result", "model/config.json").parent
        return Reader.load(path, model["dtype"], None, device)
    place = attempt.job.places[role]
    if "weights" in model:
        fingerprints = Fingerprints(attempt.runs.path / "cache" / "fingerprints.json")
        if fingerprints.of(Path(place)).sha256 != model["weights"]:
            raise ModelError("the model has changed since it was planned", where=place)
    reader = Reader.load(place, model["dtype"], model.get("revision"), device)
    commit = getattr(reader.model.config, "_commit_hash", None)
    attempt.event("model", role=role, place=place, commit=commit)
    return reader
