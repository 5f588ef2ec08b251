"""Tensors on disk: checkpoints with their sidecars, and blocks of the sender's states."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.fuzz.mutation import Choices, tokens
from tests.fuzz.records import agreeing
from tests.fuzz.specs import Case, write


def _header(raw: bytes) -> tuple[str, bytes]:
    """A safetensors file's header, which is JSON, and its numbers."""
    size = int.from_bytes(raw[:8], "little")
    return raw[8 : 8 + size].decode(), raw[8 + size :]


def _damaged(choices: Choices, raw: bytes) -> bytes:
    """The file with another header, of a length that is right or wrong, or cut short."""
    header, numbers = _header(raw)
    text = choices.text([tokens(header)]).encode("utf-8", "surrogatepass")
    size = (len(text), 0, len(text) + 1, 2**31, 2**63)[choices.number(4)]
    made = size.to_bytes(8, "little") + text + numbers
    return made[: choices.number(len(made))] if choices.number(3) == 0 else made


def checkpoint(world: Path, folder: Path) -> Case:
    """A checkpoint with one of its files damaged; its hashes and checksum agree, or not."""
    import torch

    from lwspec.engine.runs.checksum import sha256_of, with_checksum
    from lwspec.kernels.training.checkpoint import load_checkpoint

    (place,) = (world / "checkpoints").glob("step-*")
    place = Path(shutil.copytree(place, folder / place.name))
    state, tensors = place / "state.json", list(place.glob("*.safetensors"))
    originals = {path: path.read_bytes() for path in (state, *tensors)}
    seeds = [tokens(originals[state].decode())]
    module = torch.nn.Linear(2, 3)
    load_checkpoint(place, module, torch.optim.AdamW(module.parameters()))  # imports on first use

    def case(choices: Choices) -> None:
        optimizer = torch.optim.AdamW(module.parameters())
        which = choices.number(len(tensors))
        try:
            if which == 0:
                write(state, agreeing(choices, choices.text(seeds)))
            else:
                path = tensors[which - 1]
                path.write_bytes(_damaged(choices, originals[path]))
                if choices.number(4):
                    told = json.loads(originals[state])
                    told["files"][path.name] = sha256_of(path)
                    state.write_text(json.dumps(with_checksum(told)))
            load_checkpoint(place, module, optimizer)
        finally:
            for path, raw in originals.items():
                path.write_bytes(raw)

    return case


def states(world: Path, folder: Path) -> Case:
    """A block of states or pooled states whose header is damaged."""
    from lwspec.kernels.data.stored import Pooled, StoredBlock

    names = ("states.safetensors", "pooled.safetensors")
    originals = [(world / "stored" / name).read_bytes() for name in names]
    path = folder / "block.safetensors"

    def case(choices: Choices) -> None:
        which = choices.number(1)
        path.write_bytes(_damaged(choices, originals[which]))
        if which == 0:
            StoredBlock(path).of([0, 1])
        else:
            Pooled([path], 1).of([0, 1])

    return case
