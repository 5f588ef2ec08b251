"""What this machine does a second: `python -m lwspec.kernels.machine FOLDER THREADS` prints JSON.

Large products and copies, a small model's blocks, a file of `FOLDER`: what prices are made of.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaModel

from lwspec.engine.plan.cost import Machine
from lwspec.kernels.training.learner import tf32
from lwspec.kernels.work import set_up_torch

ROUNDS = 7
LAYERS = 8
FILE_BYTES = 2**28


def measure(folder: Path, threads: int, start_s: float) -> Machine:
    """All rates; `start_s` is how long a process took to begin."""
    set_up_torch(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    side = 8192 if device.type == "cuda" else 1024
    whole = torch.randn(side, side, device=device)
    half = whole.bfloat16() if device.type == "cuda" else whole
    large = torch.randn(2**28 if device.type == "cuda" else 2**24, device=device)
    copy = torch.empty_like(large)
    model: Any = LlamaModel(
        LlamaConfig(
            hidden_size=64, intermediate_size=128, num_hidden_layers=LAYERS, num_attention_heads=4,
            num_key_value_heads=4, vocab_size=64,
        )
    )  # fmt: skip
    model.to(device=device)
    ids = torch.ones(1, 8, dtype=torch.long, device=device)
    with torch.no_grad():
        return Machine(
            2 * side**3 / median_s(lambda: half @ half),
            2 * side**3 / median_s(lambda: trained(whole)),
            2 * large.nbytes / median_s(lambda: copy.copy_(large)),
            median_s(lambda: model(ids)) / LAYERS,
            FILE_BYTES / median_s(lambda: store(folder)),
            start_s,
        )


def trained(matrix: torch.Tensor) -> torch.Tensor:
    """A product in TF32, as weights are trained where the frozen models are compiled."""
    with tf32(True):
        return matrix @ matrix


def median_s(work: Callable[[], object]) -> float:
    """Of some rounds, after one that does not count."""
    taken = []
    for number in range(ROUNDS + 1):
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if number:
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def store(folder: Path) -> str:
    """Write a file and read it again for its hash, as outputs are."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(FILE_BYTES))
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Measure and print; time begins before this process, as its third argument says."""
    folder, threads, began = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    machine = measure(folder, threads, time.time() - began)
    print(json.dumps({"gpu": gpu, "machine": asdict(machine)}))


if __name__ == "__main__":
    main()
