"""Twice on a GPU: the same bytes the plain way; the fast ways also, or their record says so.

The same plans run on the CPU with `pytest -m every_arm`, which shows that they are sound.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from repeated import differing, repeated
from test_determinism import EVERY, evidence

HALF = [('dtype = "float32"', 'dtype = "bfloat16"')]
GPU = [("gpus = 0", "gpus = 1"), ('gpu = "cpu"', 'gpu = "h100"')]
DEVICES = [
    pytest.param([], id="cpu", marks=pytest.mark.every_arm),
    pytest.param(GPU, id="gpu", marks=pytest.mark.gpu),
]
FAST = {
    "compiled": [("threads = 1", "threads = 1\ncompile = true")],
    "side by side": [
        ("seeds = [1]", "seeds = [1, 2]"),
        ("threads = 1", "threads = 1\nside_by_side = 2"),
    ],
}
BRIDGE = """\
[[experiment]]
name = "main"
arms = ["bridge", "text_relay"]
bridge = { layer = 1, latents = 4, width = 16, depth = 1, heads = 2 }
text_relay = { prompt = "Text: {context}\\nKeywords:", max_new_tokens = 6 }
"""


@pytest.mark.parametrize("device", DEVICES)
def test_every_arm_in_half_precision_makes_the_same_bytes(
    tmp_path: Path, world: Path, device: list[tuple[str, str]]
) -> None:
    (project, _), (one, other) = repeated(tmp_path, world, EVERY, [*HALF, *device])
    assert differing(one, other) == []
    assert evidence(project, "fit")["deterministic"] is True


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("way", FAST)
def test_a_fast_way_makes_the_same_bytes_or_says_that_it_may_not(
    tmp_path: Path, world: Path, way: str, device: list[tuple[str, str]]
) -> None:
    (project, _), (one, other) = repeated(tmp_path, world, BRIDGE, [*HALF, *device, *FAST[way]])
    print(f"{way}: {len(differing(one, other))} of {len(one)} files differ")
    assert set(one) == set(other)
    assert evidence(project, "fit")["deterministic"] is False
