"""Cache-to-Cache against the published code's numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from two_tokenizers import reading, sharing

from lwspec.engine.shapes import Shape
from lwspec.kernels.arms.c2c import Settings, parameters
from lwspec.kernels.methods.cache_fusion import Projector, aligned, soft_gate, temperature
from lwspec.kernels.models.realign import realign

GOLDEN = json.loads((Path(__file__).parent / "golden/c2c.json").read_text())
"""Computed with the code of the repository and commit that it names, from what `wave` gives."""


def wave(count: int, shift: float) -> Tensor:
    return torch.sin(torch.arange(count, dtype=torch.float32) * 0.7 + shift)


def published() -> tuple[list[Projector], Tensor, Tensor]:
    """The golden numbers' projectors of keys and values, and what they are run on."""
    sizes = GOLDEN["sizes"]
    sharer, tokens = (sizes["sharer_heads"], sizes["sharer_head_width"]), sizes["tokens"]
    sent = wave(2 * tokens * sharer[0] * sharer[1], 1.0).view(2, sharer[0], tokens, sharer[1])
    shape = (2, sizes["heads"], tokens, sizes["head_width"])
    own, made = wave(torch.Size(shape).numel(), 2.0).view(shape), []
    for which in range(2):
        of_sharer = sharer[0] * sharer[1]
        made.append(Projector(of_sharer, sizes["heads"], sizes["head_width"], sizes["width"], 0.0))
        with torch.no_grad():
            for n, parameter in enumerate(made[-1].parameters()):
                parameter.copy_(wave(parameter.numel(), n + 20 * which).view(parameter.shape))
    return made, sent.transpose(1, 2).flatten(2), own


def assert_fused(gates: Sequence[Tensor], golden: Sequence[float]) -> None:
    projectors, sent, own = published()
    fused = [p(s, o, g) for p, s, o, g in zip(projectors, sent, own, gates, strict=True)]
    expected = torch.tensor(golden).view(own.shape)
    torch.testing.assert_close(torch.stack(fused), expected, atol=1e-4, rtol=1e-4)


def test_the_projectors_are_the_published_ones() -> None:
    open_, shut = torch.ones(2, 5, 1), torch.zeros(2, 5, 1)
    assert_fused([open_, open_], GOLDEN["gates_open"])
    assert_fused([open_, shut], GOLDEN["key_gate_open"])


def test_soft_gates_and_their_temperature_are_the_published_ones() -> None:
    soft, cooling = GOLDEN["soft_gates"], GOLDEN["temperature"]
    warmth = temperature(soft["step"], soft["anneal_steps"])
    pairs = zip(soft["logits"], soft["drawn"], strict=True)
    gates = [soft_gate(torch.tensor(logit), torch.tensor(drawn), warmth) for logit, drawn in pairs]
    assert_fused(gates, soft["fused"])
    for step, expected in cooling["by_step"].items():
        assert temperature(int(step), cooling["anneal_steps"]) == pytest.approx(expected, rel=1e-5)


def test_the_published_numbers_of_parameters() -> None:
    (projector, _), _, _ = published()
    tiny, whole = GOLDEN["parameters"].values()
    assert 2 * sum(p.numel() for p in projector.parameters()) == tiny
    pair = {
        "sender": Shape(896, 24, 0.49e9, key_width=128, key_heads=2),
        "receiver": Shape(1024, 28, 0.6e9, key_width=1024, key_heads=8),
    }
    assert parameters(Settings(anneal_steps=1929), pair) == whole


@pytest.mark.parametrize("golden", GOLDEN["layers"])
def test_layers_are_aligned_at_their_ends_as_published(golden: dict[str, Any]) -> None:
    # Of a deeper sharer only the last layers are sent, and counted from the first of those.
    left_out = max(0, golden["sharer"] - golden["receiver"])
    taken = aligned(golden["receiver"], golden["sharer"] - left_out)
    assert [layer + left_out for layer in taken] == golden["taken"]


def test_tokens_are_realigned_as_published() -> None:
    golden = GOLDEN["realigned"]
    assert realign(golden["reading"], reading(), sharing()) == golden["as_sharing"]
    assert realign(golden["sharing"], sharing(), reading()) == golden["as_reading"]
    assert realign(golden["reading"], reading(), reading()) == golden["reading"]
