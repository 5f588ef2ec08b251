"""Checkpoints: complete or absent, checked by hash when read, and never pickled.

    checkpoints/step-00000120/module.safetensors optimizer.safetensors state.json

At the end of an epoch module.safetensors is a hard link to the epoch's weights. The folder is
renamed into place once state.json, written last, holds the hashes of the others.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lwspec.engine.modes import like_its_folder
from lwspec.engine.runs.checksum import KEY, is_intact, sha256_of, sha256_once, with_checksum
from lwspec.engine.runs.runfolder import JobFolder
from lwspec.errors import CheckpointError

KEPT = 2
FILES = ("module.safetensors", "optimizer.safetensors")


@dataclass
class Progress:
    """How far a fit has come: the epoch it is in, and what it has summed up of it."""

    epoch: int = 1
    step_in_epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    rows_at_once: int | None = None
    """Fewer than a batch once memory ran out: sums are then over the same parts after a restart."""

    def fits(self) -> bool:
        """Whether it holds numbers of its kinds, as what was read from a file may not."""
        counts = (self.epoch, self.step_in_epoch, self.step, self.rows_at_once or 1)
        whole = all(type(count) is int and 0 <= count < 2**63 for count in counts)
        return whole and isinstance(self.loss_sum, float)


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> str:
    """Write tensors and return the file's hash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, path)
    like_its_folder(path)
    return sha256_once(path)


def load_weights(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Read tensors. Raises CheckpointError where the file is unreadable or has changed."""
    try:
        if sha256 is not None and sha256_of(path) != sha256:
            raise CheckpointError(
                "the weights have changed since they were recorded", where=str(path)
            )
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read weights: {error}", where=str(path)) from None


def save_checkpoint(
    folder: Path,
    weights: Mapping[str, Tensor] | Path,
    moments: Mapping[str, Tensor],
    progress: Progress,
) -> Path:
    """Write a complete checkpoint below `folder` and drop all but the newest.

    `weights` are the module's, or a file that holds them; `moments` are the optimiser's tensors.
    """
    place = folder / f"step-{progress.step:08d}"
    scratch = folder / f".step-{progress.step:08d}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    module = scratch / "module.safetensors"
    if isinstance(weights, Path):
        module.hardlink_to(weights)
    else:
        save_weights(module, weights)
    files = {
        "module.safetensors": sha256_once(module),
        "optimizer.safetensors": save_weights(scratch / "optimizer.safetensors", moments),
    }
    state = {"progress": asdict(progress), "files": files}
    (scratch / "state.json").write_text(json.dumps(with_checksum(state)))
    shutil.rmtree(place, ignore_errors=True)
    scratch.rename(place)
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)
    return place


def complete_checkpoints(job: JobFolder) -> list[Path]:
    """Every checkpoint of every attempt, the furthest first."""
    found = [path for a in job.attempts() for path in (a.path / "checkpoints").glob("step-*")]
    return sorted(found, key=lambda path: path.name, reverse=True)


def load_checkpoint(place: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Restore weights and optimiser. Raises CheckpointError, with nothing restored, if damaged."""
    try:
        state = json.loads((place / "state.json").read_text())
        if KEY in state and not is_intact(state):  # lwspec 0.1 wrote none
            raise ValueError("state.json has changed since it was written")
        progress, files = Progress(**state["progress"]), state["files"]
        hashes = [str(files[name]) for name in FILES]
        if not progress.fits():
            raise ValueError(f"no progress: {progress}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"unreadable: {error}", where=str(place)) from None
    weights, tensors = (load_weights(place / n, h) for n, h in zip(FILES, hashes, strict=True))
    own = {name: tensor.shape for name, tensor in module.state_dict().items()}
    if own != {name: tensor.shape for name, tensor in weights.items()}:
        raise CheckpointError("the weights are not this arm's", where=str(place))
    try:
        states = _optimizer_states(tensors)
    except ValueError as error:
        raise CheckpointError(f"unreadable: {error}", where=str(place)) from None
    module.load_state_dict(weights)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    return progress


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimiser knows of each weight, by name."""
    return {
        f"{index}.{name}": torch.as_tensor(value)
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }


def _optimizer_states(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    states: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        states.setdefault(int(index), {})[name] = tensor
    return states
