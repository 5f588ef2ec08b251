"""What benches on a GPU share: medians of work timed in turn, and what the card itself reaches."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Step = Callable[[], Any]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Rates:
    """What the machine reaches: floating-point operations and bytes a second."""

    bf16: float
    tf32: float
    memory: float


def median_ms(steps: Sequence[Step], repeats: int) -> list[float]:
    """Of each, timed in turn, after two rounds that do not count."""
    taken: list[list[float]] = [[] for _ in steps]
    for number in range(repeats + 2):
        for place, step in enumerate(steps):
            began = time.perf_counter()
            step()
            wait()
            if number >= 2:
                taken[place].append(1000 * (time.perf_counter() - began))
    return [statistics.median(times) for times in taken]


def wait() -> None:
    """Until the GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure_rates(device: torch.device, repeats: int) -> Rates:
    """By products of 8192-cubed matrices and copies of a gigabyte (less without a GPU)."""
    side = 8192 if device.type == "cuda" else 256
    whole = torch.randn(side, side, device=device)
    half = whole.bfloat16()
    torch.backends.cuda.matmul.allow_tf32 = True  # for this alone: it is what fits are given
    copy = torch.empty_like(whole)
    timed = median_ms(
        [lambda: half @ half, lambda: whole @ whole, lambda: copy.copy_(whole)], repeats
    )
    torch.backends.cuda.matmul.allow_tf32 = False
    bf16, tf32, memory = (1000 / ms for ms in timed)
    return Rates(2 * side**3 * bf16, 2 * side**3 * tf32, 8 * side**2 * memory)


def give_back() -> None:
    """What nobody holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
