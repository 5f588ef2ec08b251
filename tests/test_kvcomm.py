"""KVComm against its published code, and at the settings at which it must change nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Project
from drawn import drawn_reader
from pyarrow import parquet

from lwspec.engine.plan.refuse import serialised_bytes
from lwspec.engine.shapes import Shape
from lwspec.kernels.arm import Batch, Setup
from lwspec.kernels.arms.kvcomm import ARM, Settings, vectors
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.measuring import wire
from lwspec.kernels.methods.selected_layers import (
    Selected,
    attention_to_context,
    best_layers,
    layer_scores,
    layers_of,
)
from lwspec.kernels.models.answering import answer
from lwspec.kernels.models.keys_values import keys_values
from lwspec.kernels.models.reader import Reader

GOLDEN = json.loads((Path(__file__).parent / "golden" / "kvcomm.json").read_text())
LAYERS = 5

TASK = {
    "sender_prompt": "Text: {context}",
    "query": "\nColour of {text}:",
    "answer": " {label}",
    "max_prompt_tokens": 40,
}
LABELS = [[5], [6, 7], [8]]
ROWS = Batch(["red blue", "green stone river cloud", "dark"], fields=[{"text": "it"}] * 3)


@pytest.fixture
def pair(world: Path) -> tuple[Reader, Reader]:
    folder = world / "models/llama"
    return drawn_reader(LAYERS, 0.0, folder), drawn_reader(LAYERS, 1.0, folder)


@pytest.fixture
def reader(world: Path) -> Reader:
    return Reader.load(world / "models/llama", "float32", None, torch.device("cpu"))


def solved(sender: Reader, reader: Reader, **settings: Any) -> Setup:
    setup = Setup(Settings(**settings), TASK, reader, None, sender=sender)
    return replace(setup, weights=ARM.solve(setup, ROWS, [0, 0, 0], 0).weights)


def said(setup: Setup) -> torch.Tensor:
    with torch.no_grad():
        messages = ARM.messages(setup, ROWS)
    seen = [Seen(None, fields) for fields in ROWS.fields]
    prompts = [ARM.present(setup, *row) for row in zip(messages, seen, strict=True)]
    return answer(setup.reader, prompts, LABELS).label_logprobs


def test_layers_score_as_in_the_published_code(pair: tuple[Reader, Reader]) -> None:
    sender, receiver = pair
    (read,) = keys_values(sender, [[GOLDEN["context"]]])
    attention = attention_to_context(receiver, read, GOLDEN["query"])
    torch.testing.assert_close(attention, torch.tensor(GOLDEN["attention"]), atol=1e-4, rtol=0)
    for published in GOLDEN["scored"]:
        scores = layer_scores(attention, published["alpha"], published["sigma"])
        torch.testing.assert_close(scores, torch.tensor(published["scores"]), atol=1e-4, rtol=0)
        for count in range(LAYERS + 1):
            assert best_layers(scores, count) == sorted(published["ranking"][:count])
    before = receiver.model.config._attn_implementation
    assert before != "eager", "what scores were read with must not stay"


def test_the_receiver_answers_as_in_the_published_code(pair: tuple[Reader, Reader]) -> None:
    """Layers 1 and 3 and, as always there, layer 0; of the others the first token.

    There the query was read token by token: read at once, its tokens would see later ones.
    """
    sender, receiver = pair
    (read,) = keys_values(sender, [[GOLDEN["context"]]])
    layers = Selected([0, *GOLDEN["sent"]], [2, 4])
    message = layers.pack(read)
    assert message.shape == (2, 3 * len(GOLDEN["context"]) + 2, 8)
    prompt = [layers.unpack(receiver, message), GOLDEN["query"]]
    given = answer(receiver, [prompt], [[token] for token in range(40)]).label_logprobs[0]
    published = torch.tensor(GOLDEN["logits"]).log_softmax(0)
    torch.testing.assert_close(given, published, atol=1e-4, rtol=0)


def test_the_first_row_decides_and_the_query_has_its_columns(reader: Reader) -> None:
    setup = Setup(Settings(alpha=1.0), TASK, reader, None, sender=reader)
    scores = [
        ARM.solve(setup, batch, [0], 0).weights["scores"]
        for batch in (
            ROWS,
            Batch(ROWS.contexts[:1], fields=ROWS.fields[:1]),
            Batch(ROWS.contexts[1:], fields=ROWS.fields[1:]),
            Batch(ROWS.contexts[:1], fields=[{"text": "all the clouds"}]),
        )
    ]
    assert torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], scores[2])
    assert not torch.equal(scores[0], scores[3])


def test_without_layers_the_receiver_is_alone_with_the_query(reader: Reader) -> None:
    setup = solved(reader, reader, ratio=0.0, others="nothing")
    assert all(message.numel() == 0 for message in ARM.messages(setup, ROWS))
    alone = answer(reader, [[reader.encode("\nColour of it:")]] * 3, LABELS).label_logprobs
    torch.testing.assert_close(said(setup), alone)


@pytest.mark.parametrize("others", ["first_token", "nothing"])
def test_with_all_layers_one_model_goes_on_as_if_it_had_read_the_text(
    reader: Reader, others: str
) -> None:
    query = reader.encode("\nColour of it:")
    prompts = [[reader.encode(f"Text: {text}") + query] for text in ROWS.contexts]
    plain = answer(reader, prompts, LABELS).label_logprobs
    given = said(solved(reader, reader, ratio=1.0, others=others))
    torch.testing.assert_close(given, plain, atol=1e-4, rtol=1e-4)


def test_what_other_layers_are_given_is_what_the_settings_say(reader: Reader) -> None:
    """The three layers of the model, of which the middle one alone is handed over by its score."""
    nothing, first, two = (
        replace(
            solved(reader, reader, ratio=ratio, others=others),
            weights={"scores": torch.tensor([0.0, 1.0, 0.5])},
        )
        for ratio, others in ((0.3, "nothing"), (0.3, "first_token"), (0.6, "nothing"))
    )
    tokens = len(reader.encode("Text: dark"))
    sizes = [ARM.messages(each, ROWS)[2].shape[1] for each in (nothing, first, two)]
    assert sizes == [tokens, 2 * tokens + 1, 2 * tokens]
    query = reader.encode("\nColour of it:")
    (whole,) = keys_values(reader, [[reader.encode("Text: dark")]])
    for setup, given in ((nothing, {1: tokens}), (first, {0: tokens, 1: tokens, 2: 1})):
        cached, read = ARM.present(setup, ARM.messages(setup, ROWS)[2], Seen(None, {"text": "it"}))
        assert (read, cached.tokens) == (query, tokens)
        assert {layer: keys.shape[1] for layer, (keys, _) in cached.layers.items()} == given
        for layer, (keys, values) in cached.layers.items():
            torch.testing.assert_close(keys, whole[layer, 0, :, : given[layer]])
            torch.testing.assert_close(values, whole[layer, 1, :, : given[layer]])


def test_shares_of_layers_are_rounded_up_and_ties_go_to_the_later() -> None:
    assert [layers_of(ratio, 10) for ratio in (0.0, 0.3, 0.31, 0.7, 1.0)] == [0, 3, 4, 7, 10]
    assert best_layers(torch.tensor([0.5, 1.0, 0.5, 0.2]), 2) == [1, 2]
    alike = layer_scores(torch.full((4,), 0.3), 1.0, 10.0)
    assert alike.tolist() == [0.0] * 4


@pytest.mark.parametrize("precision", ["bfloat16", "int8", "int4"])
@pytest.mark.parametrize("others", ["first_token", "nothing"])
def test_the_bytes_that_a_plan_counts_are_those_of_a_message(
    reader: Reader, others: str, precision: str
) -> None:
    """Layer 0 is not among the best: then it comes on top."""
    setup = solved(reader, reader, ratio=0.6, others=others)
    setup = replace(setup, weights={"scores": torch.tensor([0.0, 1.0, 0.5])})
    ids = reader.encode("Text: dark")
    _, sizes = wire.send(ARM.messages(setup, ROWS)[2:], precision)
    shape = Shape(32, 3, 1e5, key_width=16)
    most = vectors(setup.settings, {"sender": shape, "receiver": shape}, len(ids))
    assert sizes == [serialised_bytes(*most, precision)]


EXPERIMENT = """
[[experiment]]
name = "handed"
arms = ["kvcomm", "latentmas", "no_message", "sender_direct"]
kvcomm = { ratio = 0.5, alpha = 0.8 }
latentmas = { steps = 2, realign = "ridge" }
receiver = "llama"
evaluate = { precision = "int8" }

[[experiment]]
name = "plain"
arms = ["kvcomm", "latentmas"]
kvcomm = { ratio = 0.0, others = "nothing" }
latentmas = { steps = 0 }
receiver = "llama"
evaluate = { precision = "float32" }

[[table]]"""


def test_both_arms_that_hand_over_keys_and_values_run_from_a_spec(project: Project) -> None:
    """Without layers KVComm scores every item as no message does, and nothing crosses."""
    project.keep("probe")
    project.change("[[table]]", EXPERIMENT.lstrip())
    project.change('experiments = ["probe"]', 'experiments = ["handed", "plain"]')
    project.run("plan", "small.toml")
    project.run("submit", "--only", "evaluate")
    found = {}
    for path in project.runs.glob("evaluate-*/attempt-1/predictions/test.parquet"):
        job = json.loads((path.parents[2] / "job.json").read_text())["settings"]
        found[job["arm"], job.get("precision")] = parquet.read_table(path).to_pydict()
    alone = found["no_message", None]["label_logprobs"]
    nothing = found["kvcomm", "float32"]
    torch.testing.assert_close(torch.tensor(nothing["label_logprobs"]), torch.tensor(alone))
    assert set(nothing["message_bytes"]) == {0}
    for name in ("kvcomm", "latentmas"):
        scored = {tuple(row) for row in found[name, "int8"]["label_logprobs"]}
        assert len(scored) > 20, "every text of its own is heard"
        assert min(found[name, "int8"]["message_bytes"]) > 0
