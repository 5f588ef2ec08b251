"""Which frozen models a job loads, from where, and onto what."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from lwspec.engine.plan.fingerprint import Fingerprints
from lwspec.errors import ModelError
from lwspec.kernels.attempt import Attempt
from lwspec.kernels.models.reader import Reader


def load_reader(
    attempt: Attempt,
    role: str,
    model: Mapping[str, Any],
    device: torch.device,
    *,
    shared: bool = True,
) -> Reader:
    """The frozen model of a role: a toy that an input job trained, a folder, or a hub id.

    Its weights are random where the job says so. It is `shared` with what else this process runs,
    unless weights of an arm's own go into it.
    """
    load = partial(
        _load if shared else _load.__wrapped__,
        attempt.job.compiled,
        model.get("random_weights"),
        model.get("remote_code", False),
    )
    if "toy" in model:
        made = attempt.input(role)
        files = [made.file("result", name) for name in made.taken()["result"]["files"]]
        return load(files[0].parent, model["dtype"], None, device)
    place = attempt.job.places[role]
    if "weights" in model:
        fingerprints = Fingerprints(attempt.runs.path / "cache" / "fingerprints.json")
        if fingerprints.of(Path(place)).sha256 != model["weights"]:
            raise ModelError(
                "the model has changed since it was planned",
                where=place,
                remedy="restore it, or plan and submit again: other weights make other jobs",
            )
    elif Path(place).exists():
        raise ModelError(
            f"{place} is a model of the hub, and a folder here would be read in its place",
            where=str(Path(place).resolve()),
            remedy="move the folder, or name it in the spec",
        )
    reader = load(place, model["dtype"], model.get("revision"), device)
    commit = getattr(reader.model.config, "_commit_hash", None)
    ran = {"remote_code": True} if model.get("remote_code") else {}
    attempt.event("model", role=role, place=place, commit=commit, **ran)
    if "hub" in model:
        attempt.commits[place] = commit
    return reader


@lru_cache(maxsize=2)
def _load(
    compiled: bool,
    random_weights: int | None,
    remote_code: bool,
    path: str | Path,
    dtype: str,
    revision: str | None,
    device: torch.device,
) -> Reader:
    """Each of a pair once in a process, with the memory free of what earlier jobs are done with."""
    gc.collect()  # compiled and recorded models refer to themselves
    return Reader.load(
        path,
        dtype,
        revision,
        device,
        compiled=compiled,
        random_weights=random_weights,
        remote_code=remote_code,
    )


def device_of(attempt: Attempt) -> torch.device:
    """The GPU that the job asks for, or the CPU. Raises ModelError where there is no GPU."""
    if attempt.job.gpus == 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ModelError(
            "the job asks for a GPU and this process sees none",
            remedy="run it where CUDA works, or set resources = { gpus = 0 } in the spec",
        )
    return torch.device("cuda")
