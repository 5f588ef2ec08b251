"""One state handed over: what the map is fitted to, and what becomes of the receiver's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import WORDS, Project
from grafted import said_with
from torch import Tensor

from lwspec.kernels.arm import Batch, Setup
from lwspec.kernels.arms import all_arms
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.methods.ridge import ridge
from lwspec.kernels.models.answering import answer
from lwspec.kernels.models.hidden import hidden_states
from lwspec.kernels.models.reader import Reader

GRAFT = all_arms()["graft"]
TASK = {
    "labels": ["red", "blue", "green stone"],
    "receiver_prompt": "Text: {context}\nColour:",
    "query": "Colour:",
    "answer": " {label}",
    "max_prompt_tokens": 40,
}
LABELS = [[5], [6, 7]]


@pytest.fixture
def reader(world: Path) -> Reader:
    return Reader.load(world / "models/mistral", "float32", None, torch.device("cpu"))


def setup_of(reader: Reader, **given: Any) -> Setup:
    parsed = GRAFT.declaration.settings.model_validate({"layer": 2, "into": 1, **given})
    return Setup(parsed, TASK, reader, 32)


def texts(rows: int) -> Batch:
    torch.manual_seed(0)
    contexts = [" ".join(WORDS[n % 12 : n % 12 + n % 4 + 1]) for n in range(rows)]
    return Batch(contexts, pooled=torch.randn(rows, 32))


def scores(reader: Reader, prompt: Any) -> Tensor:
    return answer(reader, [prompt], LABELS).label_logprobs


def test_the_map_is_fitted_to_the_receiver_that_reads_the_text(reader: Reader) -> None:
    setup, batch = setup_of(reader), texts(60)
    solved = GRAFT.solve(setup, batch, [0] * 60, 3)
    prompts = [[reader.encode(f"Text: {text}\nColour:")] for text in batch.contexts]
    own = torch.stack([hidden_states(reader, [prompt], 1)[0][-1] for prompt in prompts])
    learnt = [n for n in range(60) if n % 10]
    weights, offset = ridge(batch.pooled[learnt], own[learnt])
    torch.testing.assert_close(solved.weights["map"], weights, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(solved.weights["offset"], offset, atol=1e-3, rtol=1e-3)
    mapped = (batch.pooled @ weights.T + offset)[::10]
    cosines = [float(a @ b / (a.norm() * b.norm())) for a, b in zip(mapped, own[::10], strict=True)]
    assert solved.metrics["cosine"] == pytest.approx(sum(cosines) / 6, abs=1e-4)


def test_a_state_replaces_that_of_the_querys_last_token(reader: Reader) -> None:
    query = reader.encode("Colour:")
    sent = torch.randn(1, reader.width)
    for share in (1.0, 0.25):
        setup = setup_of(reader, share=share)
        said = scores(reader, GRAFT.present(setup, sent, Seen(None, {})))[0, 0]

        def replaced(states: Tensor, share: float = share) -> None:
            states[0, -1] = (1 - share) * states[0, -1] + share * sent[0]

        torch.testing.assert_close(said, said_with(reader, query, {1: replaced}, 5))


def test_nothing_of_it_taken_and_nothing_sent_are_the_receiver_alone(reader: Reader) -> None:
    alone = scores(reader, [reader.encode("Colour:")])
    sent = torch.randn(1, reader.width)
    none = GRAFT.present(setup_of(reader, share=0.0), sent, Seen(None, {}))
    torch.testing.assert_close(scores(reader, none), alone)
    unsent = GRAFT.present(setup_of(reader), sent[:0], Seen(None, {}))
    assert torch.equal(scores(reader, unsent), alone)
    given = GRAFT.present(setup_of(reader), sent, Seen(None, {}))
    assert not torch.allclose(scores(reader, given), alone)


def test_the_mapped_state_is_all_that_crosses(reader: Reader) -> None:
    setup, batch = setup_of(reader), texts(60)
    solved = GRAFT.solve(setup, batch, [0] * 60, 3)
    count = sum(weight.numel() for weight in solved.weights.values())
    assert GRAFT.declaration.parameters(setup.settings, 32, reader.width) == count
    sent = GRAFT.messages(replace(setup, weights=solved.weights), batch)
    assert {row.shape for row in sent} == {torch.Size([1, reader.width])}
    one = solved.weights["map"] @ batch.pooled[7] + solved.weights["offset"]
    torch.testing.assert_close(sent[7][0], one)


def test_a_layer_that_the_receiver_lacks_is_refused_at_plan_time(project: Project) -> None:
    project.keep("probe")
    project.change('arms = ["linear_probe"]', 'arms = ["graft"]')
    project.change(
        "linear_probe = { layer = 1, folds = 2, inverse_penalties = [0.1, 1.0] }",
        "graft = { layer = 3, into = 2 }",
    )
    refused = project.run("plan", "small.toml", status=2).stderr
    assert "into 2 is asked for; the receiver 'mistral' has 2 layers" in refused
    project.change("into = 2", "into = 1")
    project.run("plan", "small.toml")
