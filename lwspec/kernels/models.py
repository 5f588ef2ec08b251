"""Which frozen models a job loads, and from where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

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
    return Reader.load(attempt.job.places[role], model["dtype"], model.get("revision"), device)
