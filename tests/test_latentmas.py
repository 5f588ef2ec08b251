"""LatentMAS against its published code, and without latent steps against plain reading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn import drawn_reader

from lwspec.engine.plan.refuse import serialised_bytes
from lwspec.engine.shapes import Shape
from lwspec.kernels.arm import Batch, Setup
from lwspec.kernels.arms.latentmas import ARM, Settings, vectors
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.measuring import wire
from lwspec.kernels.methods.latent_steps import (
    Alignment,
    alignment,
    embedding_norm,
    realignment,
    think,
)
from lwspec.kernels.models.answering import answer
from lwspec.kernels.models.hidden import hidden_states
from lwspec.kernels.models.keys_values import keys_values
from lwspec.kernels.models.reader import Reader

GOLDEN = json.loads((Path(__file__).parent / "golden" / "latentmas.json").read_text())

TASK = {
    "sender_prompt": "Text: {context}\nThoughts:",
    "query": "\nColour:",
    "answer": " {label}",
    "max_prompt_tokens": 40,
}
LABELS = [[5], [6, 7], [8]]
ROWS = Batch(["red blue", "green stone river cloud", "dark"], fields=[{}] * 3)


@pytest.fixture
def drawn(world: Path) -> Reader:
    return drawn_reader(3, 0.0, world / "models/llama")


@pytest.fixture(params=["llama", "mistral", "qwen"])
def reader(request: pytest.FixtureRequest, world: Path) -> Reader:
    return Reader.load(world / "models" / request.param, "float32", None, torch.device("cpu"))


def setup_of(reader: Reader, **settings: Any) -> Setup:
    return Setup(Settings(**settings), TASK, reader, None, sender=reader)


def prompts_of(reader: Reader) -> list[list[int]]:
    return [reader.encode(f"Text: {text}\nThoughts:") for text in ROWS.contexts]


def test_the_ridge_map_is_that_of_the_published_code(drawn: Reader) -> None:
    published = torch.tensor(GOLDEN["matrix"])
    torch.testing.assert_close(realignment(drawn, "ridge"), published, atol=1e-4, rtol=0)
    assert embedding_norm(drawn) == pytest.approx(GOLDEN["norm"], abs=1e-4)


@pytest.mark.parametrize("realign", ["identity", "ridge"])
def test_latent_steps_are_those_of_the_published_code(drawn: Reader, realign: Any) -> None:
    prompt, steps = GOLDEN["prompt"], GOLDEN["steps"]
    (kept,) = think(drawn, [[prompt]], steps, alignment(drawn, realign))
    (read,) = keys_values(drawn, [[prompt]])
    published = torch.tensor(GOLDEN["latent"][realign])
    torch.testing.assert_close(kept[..., -steps:, :], published, atol=1e-4, rtol=0)
    torch.testing.assert_close(kept[..., :-steps, :], read)


def test_a_latent_step_reads_the_last_state_as_the_next_token(reader: Reader) -> None:
    """Each step computed by reading all that stands before it anew."""
    align, prompts = alignment(reader, "ridge"), prompts_of(reader)
    together = think(reader, [[ids] for ids in prompts], 3, align)
    depth = len(together[0])
    for ids, kept in zip(prompts, together, strict=True):
        prompt: list[Any] = [ids]
        for _ in range(3):
            state = hidden_states(reader, [prompt], depth)[0][-1]
            mapped = state @ align.map_WW
            prompt.append((mapped / mapped.norm() * align.norm)[None])
        with torch.no_grad():
            (anew,) = keys_values(reader, [prompt])
        torch.testing.assert_close(kept, anew, atol=1e-4, rtol=1e-4)


def test_without_latent_steps_the_receiver_goes_on_as_if_it_had_read_the_text(
    reader: Reader,
) -> None:
    query = reader.encode("\nColour:")[len(reader.bos) :]
    plain = answer(reader, [[ids + query] for ids in prompts_of(reader)], LABELS, 4)
    said = {}
    for steps in (0, 2):
        setup = setup_of(reader, steps=steps)
        rows = zip(ARM.messages(setup, ROWS), ROWS.fields, strict=True)
        prompts = [ARM.present(setup, message, Seen(None, fields)) for message, fields in rows]
        said[steps] = answer(reader, prompts, LABELS, 4)
    logprobs = said[0].label_logprobs
    torch.testing.assert_close(logprobs, plain.label_logprobs, atol=1e-4, rtol=1e-4)
    assert said[0].written == plain.written
    assert not torch.allclose(said[2].label_logprobs, logprobs, atol=1e-3)


def test_maps_of_hidden_states_to_embeddings(reader: Reader) -> None:
    eye = torch.eye(reader.width)
    assert torch.equal(realignment(reader, "identity"), eye)
    drawn = realignment(reader, "random")
    assert torch.equal(drawn, realignment(reader, "random"))
    torch.testing.assert_close(drawn @ drawn.T, eye, atol=1e-5, rtol=0)
    tied = reader.model.config.tie_word_embeddings
    assert torch.allclose(realignment(reader, "ridge"), eye, atol=1e-3) == tied
    norms = reader.embedding.weight.norm(dim=1)
    assert embedding_norm(reader) == pytest.approx(float(norms.mean()), rel=1e-5)
    made: Alignment = alignment(reader, "ridge")
    assert made is alignment(reader, "ridge")
    state = torch.randn(2, 1, reader.width)
    torch.testing.assert_close(made(state).norm(dim=-1), torch.full((2, 1), made.norm))


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_the_bytes_that_a_plan_counts_are_those_of_a_message(world: Path, precision: str) -> None:
    reader = Reader.load(world / "models/llama", "float32", None, torch.device("cpu"))
    setup = setup_of(reader, steps=3)
    _, sizes = wire.send(ARM.messages(setup, ROWS)[2:], precision)
    shape = Shape(32, 3, 1e5, key_width=16)
    tokens = len(prompts_of(reader)[2])
    most = vectors(setup.settings, {"sender": shape, "receiver": shape}, tokens)
    assert sizes == [serialised_bytes(*most, precision)]
