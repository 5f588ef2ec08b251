"""An adapter moved from one model to another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import WORDS

from lwspec.errors import ModelError
from lwspec.kernels.arm import Batch, Setup
from lwspec.kernels.arms import all_arms
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.methods.transfer import move, move_all
from lwspec.kernels.models.answering import answer
from lwspec.kernels.models.reader import Reader

CROSS = all_arms()["cross_lora"]
TASK = {
    "labels": ["red", "blue", "green stone"],
    "receiver_prompt": "Text: {context}\nColour:",
    "sender_prompt": "Words: {context}\nColour:",
    "answer": " {label}",
    "max_prompt_tokens": 40,
}


def setup_of(world: Path, sender: str = "llama", **given: Any) -> Setup:
    device = torch.device("cpu")
    pair = [
        Reader.load(world / "models" / name, "float32", None, device)
        for name in (sender, "mistral")
    ]
    parsed = CROSS.declaration.settings.model_validate({"rank": 2, **given})
    return Setup(parsed, TASK, pair[1], pair[0].width, sender=pair[0])


def rows(count: int) -> tuple[Batch, list[int]]:
    return Batch([" ".join(WORDS[n % 12 : n % 12 + 3]) for n in range(count)]), [
        n % 3 for n in range(count)
    ]


def test_the_update_is_mapped_between_the_layers_subspaces() -> None:
    torch.manual_seed(0)
    source, target = torch.randn(7, 9), torch.randn(5, 6)
    down, up = torch.randn(2, 9), torch.randn(7, 2)
    found = move(down, up, source, target, 3)
    update = torch.zeros(5, 6)
    (u, _, v), (x, _, y) = (torch.linalg.svd(each) for each in (source, target))
    core = u.T @ up @ down @ v.T
    for i in range(3):
        for j in range(3):
            update += core[i, j] * torch.outer(x[:, i], y[j])
    torch.testing.assert_close(found[1] @ found[0], update, atol=1e-4, rtol=1e-4)
    # The map is the least-squares one, of least norm: P U_source = U_target.
    best = torch.linalg.pinv(u[:, :3].T) @ x[:, :3].T
    torch.testing.assert_close(best.T @ up, found[1], atol=1e-4, rtol=1e-4)


def test_what_lies_in_a_layers_own_subspaces_moves_to_itself_unchanged() -> None:
    torch.manual_seed(0)
    layer, down, up = torch.randn(6, 6), torch.randn(2, 6), torch.randn(6, 2)
    moved = move(down, up, layer, layer, 320)
    torch.testing.assert_close(moved[0], down, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(moved[1], up, atol=1e-4, rtol=1e-4)


def test_the_sender_learns_and_the_receiver_gets_what_it_learnt(world: Path) -> None:
    setup, (batch, labels) = setup_of(world, learning_rate=0.02, epochs=1), rows(48)
    torch.manual_seed(0)
    first = CROSS.solve(setup, batch, labels, 3)
    longer = setup_of(world, learning_rate=0.02, epochs=6)
    torch.manual_seed(0)
    later = CROSS.solve(longer, batch, labels, 3)
    assert later.metrics["train_loss"] < first.metrics["train_loss"]
    assert longer.reader is not None
    prompt = [CROSS.present(longer, None, seen) for seen in (Seen("red blue", {}),)]
    alone = answer(longer.reader, prompt, [[5]]).label_logprobs
    module = CROSS.build(replace(longer, weights=later.weights))
    torch.testing.assert_close(answer(longer.reader, prompt, [[5]]).label_logprobs, alone)
    module.load_state_dict(later.weights)
    assert not torch.allclose(answer(longer.reader, prompt, [[5]]).label_logprobs, alone)


def test_blocks_are_paired_by_relative_depth(world: Path) -> None:
    """Of a sender of three blocks, a receiver of two takes the first and the last."""
    from lwspec.kernels.arms import lora

    setup = setup_of(world)
    assert setup.sender is not None and setup.reader is not None
    module = lora.build(replace(setup, reader=setup.sender))
    for path, weight in module.items():
        torch.nn.init.constant_(weight, 0.0 if "/layers/1/" in path else 1.0)
    moved = move_all(setup.sender.model, setup.reader.model, ["q_proj", "v_proj"], 320)
    assert len(moved) == 2 * 2 * 2
    assert all(float(weight.abs().sum()) > 0 for weight in moved.values())
    assert set(moved) == set(CROSS.build(setup).state_dict())


def test_layers_that_only_the_receiver_has_are_refused(world: Path) -> None:
    setup = setup_of(world, sender="gpt")
    assert setup.sender is not None and setup.reader is not None
    with pytest.raises(ModelError, match="the sender has none to move them from"):
        move_all(setup.sender.model, setup.reader.model, ["q_proj"], 320)
