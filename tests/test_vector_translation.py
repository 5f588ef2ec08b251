"""Translated states: the loss, written out, and what is blended where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import WORDS
from grafted import said_with
from torch import Tensor

from lwspec.kernels.arm import Batch, Setup
from lwspec.kernels.arms import all_arms
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.methods.translator import Pair, learn, translate, translation_loss
from lwspec.kernels.models.answering import answer
from lwspec.kernels.models.reader import Reader

TRANSLATION = all_arms()["vector_translation"]
TASK = {
    "labels": ["red", "blue", "green stone"],
    "receiver_prompt": "Text: {context}\nColour:",
    "query": "Colour:",
    "answer": " {label}",
    "max_prompt_tokens": 40,
}


@pytest.fixture
def reader(world: Path) -> Reader:
    return Reader.load(world / "models/llama", "float32", None, torch.device("cpu"))


def setup_of(reader: Reader, **given: Any) -> Setup:
    parsed = TRANSLATION.declaration.settings.model_validate({"layer": 2, **given})
    return Setup(parsed, TASK, reader, 20)


def test_the_loss_is_its_four_terms_written_out_both_ways() -> None:
    torch.manual_seed(0)
    pair, x, y = Pair(5, 512, 4), torch.randn(3, 5), torch.randn(3, 4)
    with torch.no_grad():
        whole = float(translation_loss(pair, x, y))
        forth, back = pair.forth(x), pair.back(y)
        cycles = (pair.back(forth), x), (pair.forth(back), y)

    def mean_square(a: Tensor, b: Tensor) -> float:
        pairs = list(zip(a.flatten().tolist(), b.flatten().tolist(), strict=True))
        return sum((i - j) ** 2 for i, j in pairs) / len(pairs)

    total = 0.0
    for made, true in ((forth, y), (back, x)):
        total += mean_square(made, true)
        for row in range(3):
            near = [
                float(made[row] @ other / (made[row].norm() * other.norm())) / 0.07
                for other in true
            ]
            total -= 0.3 / 3 * float(torch.tensor(near).log_softmax(0)[row])
        for column in range(made.shape[1]):
            means = [sum(each[:, column].tolist()) / 3 for each in (made, true)]
            spreads = [
                (sum((v - mean) ** 2 for v in each[:, column].tolist()) / 3) ** 0.5
                for each, mean in zip((made, true), means, strict=True)
            ]
            apart = (means[0] - means[1]) ** 2 + (spreads[0] - spreads[1]) ** 2
            total += 0.2 * apart / made.shape[1]
    total += 0.5 * sum(mean_square(*cycle) for cycle in cycles)
    assert whole == pytest.approx(total, rel=1e-4)


def test_what_one_way_can_tell_and_the_other_cannot_shows_in_the_cosines() -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 8) * 3 + 1
    y = x[:, :2] @ torch.randn(2, 6) + 5
    weights, found = learn(x, y, 512)
    assert found["cosine"] > 0.8 > found["cosine_back"] + 0.1
    fresh = torch.randn(50, 8) * 3 + 1
    made, true = translate(weights, fresh), fresh[:, :2] @ (torch.linalg.lstsq(
        x[:, :2], y - 5).solution) + 5  # fmt: skip
    assert float((made - true).pow(2).mean()) < 0.1 * float(true.var(0).mean())


def test_one_state_is_blended_into_the_last_three_of_both(reader: Reader) -> None:
    query, sent = reader.encode("Colour:"), torch.randn(1, reader.width)
    assert len(query) >= 3

    def mixed(states: Tensor) -> None:
        states[0, -3:] = 0.7 * states[0, -3:] + 0.3 * sent

    prompt = TRANSLATION.present(setup_of(reader), sent, Seen(None, {}))
    said = answer(reader, [prompt], [[5]]).label_logprobs[0, 0]
    wanted = said_with(reader, query, {0: mixed, 1: mixed, 2: mixed}, 5)
    torch.testing.assert_close(said, wanted)


def test_nothing_of_it_taken_and_nothing_sent_are_the_receiver_alone(reader: Reader) -> None:
    sent = torch.randn(1, reader.width)
    alone = answer(reader, [[reader.encode("Colour:")]], [[5]]).label_logprobs
    for setup, given in ((setup_of(reader, share=0.0), sent), (setup_of(reader), sent[:0])):
        prompt = TRANSLATION.present(setup, given, Seen(None, {}))
        torch.testing.assert_close(answer(reader, [prompt], [[5]]).label_logprobs, alone)


def test_messages_are_translated_states_and_the_seed_decides(reader: Reader) -> None:
    torch.manual_seed(0)
    contexts = [" ".join(WORDS[n % 12 : n % 12 + n % 4 + 1]) for n in range(40)]
    setup, batch = setup_of(reader), Batch(contexts, pooled=torch.randn(40, 20))
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        solved = TRANSLATION.solve(setup, batch, [0] * 40, 3)
        assert set(solved.metrics) == {"cosine", "cosine_back"}
        rows = TRANSLATION.messages(replace(setup, weights=solved.weights), batch)
        count = sum(weight.numel() for weight in solved.weights.values())
        declared = TRANSLATION.declaration
        assert declared.parameters(setup.settings, 20, reader.width) == count
        made.append(torch.cat(list(rows)))
    assert made[0].shape == (40, reader.width)
    assert torch.equal(made[0], made[1])
    assert not torch.allclose(made[0], made[2])
