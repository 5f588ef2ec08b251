"""Models of every family against transformers' own forward pass, generation and brute force."""

from __future__ import annotations

import gc
import math
import weakref
from pathlib import Path

import pytest
import torch

from lwspec.errors import ModelError
from lwspec.kernels.models.answer_logits import answer_logits
from lwspec.kernels.models.answering import answer, texts, write
from lwspec.kernels.models.blocks import blocks_of
from lwspec.kernels.models.hidden import hidden_states, pooled_states
from lwspec.kernels.models.load import _load
from lwspec.kernels.models.prune import prune, surprisals
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.training.loss import Counts, answer_loss

TEXTS = ["red blue", "green stone river cloud quick slow warm", "dark"]


FAMILIES = ["llama", "mistral", "qwen", "gemma", "gpt"]


@pytest.fixture(params=FAMILIES)
def reader(request: pytest.FixtureRequest, world: Path) -> Reader:
    return Reader.load(world / "models" / request.param, "float32", None, torch.device("cpu"))


def alone(reader: Reader, ids: list[int]) -> torch.Tensor:
    """Log-probabilities [tokens, vocabulary] of one sequence, by transformers alone."""
    with torch.no_grad():
        return reader.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)


def test_labels_are_scored_in_full_whatever_stands_beside_them(reader: Reader) -> None:
    prompts = [reader.encode(f"Text: {text}\nColour:") for text in TEXTS]
    labels = [reader.answer_ids("Colour:", f" {label}") for label in ("red", "green stone", "dark")]
    assert {len(label) for label in labels} != {1}
    answers = answer(reader, [[prompt] for prompt in prompts], labels, write_tokens=5)
    for row, prompt in enumerate(prompts):
        for column, label in enumerate(labels):
            logits = alone(reader, prompt + label)
            expected = sum(
                float(logits[len(prompt) + place - 1, token]) for place, token in enumerate(label)
            )
            assert float(answers.label_logprobs[row, column]) == pytest.approx(expected, abs=1e-4)


def test_writing_is_greedy_generation(reader: Reader) -> None:
    prompts = [reader.encode(f"Text: {text}\nKeywords:") for text in TEXTS]
    written = write(reader, [[prompt] for prompt in prompts], 7)
    for prompt, text in zip(prompts, written, strict=True):
        ids = torch.tensor([prompt])
        made = reader.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=7, do_sample=False,
            pad_token_id=reader.eos,
        )  # fmt: skip
        assert text == texts(reader, made[:, len(prompt) :])[0]


def test_hidden_states_of_every_layer(reader: Reader) -> None:
    prompts = [reader.encode(text) for text in TEXTS]
    depth = reader.model.config.num_hidden_layers
    for layer in range(depth + 1):
        states = hidden_states(reader, [[prompt] for prompt in prompts], layer)
        for prompt, state in zip(prompts, states, strict=True):
            with torch.no_grad():
                whole = reader.model(input_ids=torch.tensor([prompt]), output_hidden_states=True)
            torch.testing.assert_close(state, whole.hidden_states[layer][0], atol=1e-5, rtol=1e-4)
    with pytest.raises(ModelError, match=f"layer {depth + 1}"):
        hidden_states(reader, [[prompts[0]]], depth + 1)


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_pooled_states_are_those_of_each_layer(reader: Reader, pooling: str) -> None:
    prompts = [[reader.encode(text)] for text in TEXTS]
    pooled = pooled_states(reader, prompts, pooling)
    for layer in range(reader.model.config.num_hidden_layers + 1):
        for row, states in enumerate(hidden_states(reader, prompts, layer)):
            expected = states[-1] if pooling == "last" else states.mean(0)
            torch.testing.assert_close(pooled[row][layer], expected, atol=1e-5, rtol=1e-4)


def test_surprisal_is_minus_the_log_probability_of_each_token(reader: Reader) -> None:
    texts = [reader.encode(text)[len(reader.bos) :] for text in TEXTS]
    for ids, found in zip(texts, surprisals(reader, texts), strict=True):
        logits = alone(reader, [*reader.bos, *ids])
        for place, token in enumerate(ids):
            before = place + len(reader.bos) - 1
            if before >= 0:
                expected = -float(logits[before, token])
                assert float(found[place]) == pytest.approx(expected, abs=1e-4)
            else:
                assert float(found[place]) == pytest.approx(math.log(logits.shape[-1]))


def test_pruning_keeps_the_most_surprising_tokens_in_their_order(reader: Reader) -> None:
    ids = reader.encode(TEXTS[1])[len(reader.bos) :]
    (losses,) = surprisals(reader, [ids])
    best = sorted(sorted(range(len(ids)), key=lambda place: -float(losses[place]))[:3])
    assert prune(reader, [TEXTS[1]], 3, 40) == [
        reader.tokenizer.decode([ids[place] for place in best])
    ]
    assert prune(reader, [TEXTS[1]], 99, 40) == [TEXTS[1]]


def test_nothing_above_the_layer_is_run(reader: Reader) -> None:
    ran: list[int] = []
    for index, block in enumerate(blocks_of(reader.model)):
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
    hidden_states(reader, [[reader.encode("red")]], 1)
    assert ran == [0]


def test_embeddings_and_tokens_give_the_same_answer(reader: Reader) -> None:
    ids = reader.encode("Text: red\nColour:")
    label = [reader.answer_ids("Colour:", " red")]
    as_ids = answer(reader, [[ids]], label)
    embedded = reader.embedding(torch.tensor(ids[3:])).detach()
    mixed = answer(reader, [[ids[:3], embedded]], label)
    torch.testing.assert_close(as_ids.label_logprobs, mixed.label_logprobs)


def test_the_loss_is_the_mean_over_answer_tokens(reader: Reader) -> None:
    prompts = [reader.encode(f"Text: {text}\nColour:") for text in TEXTS]
    answers = [
        [*reader.answer_ids("Colour:", f" {label}"), reader.eos]
        for label in ("red", "green stone", "blue")
    ]
    terms = []
    for prompt, said in zip(prompts, answers, strict=True):
        logits = alone(reader, prompt + said)
        terms += [-float(logits[len(prompt) + i - 1, token]) for i, token in enumerate(said)]
    logits, tokens = answer_logits(reader, [[prompt] for prompt in prompts], answers)
    loss = answer_loss(logits, tokens, Counts(sum(map(len, answers)), 3))
    assert float(loss) == pytest.approx(sum(terms) / len(terms), abs=1e-4)


def test_gradients_reach_soft_tokens_and_nothing_else(reader: Reader) -> None:
    soft = torch.randn(2, 3, reader.width, requires_grad=True)
    prompts = [[reader.encode("Colour:"), row] for row in soft]
    logits, tokens = answer_logits(reader, prompts, [[5, reader.eos], [6, 7, reader.eos]])
    answer_loss(logits, tokens, Counts(5, 2)).backward()
    assert soft.grad is not None
    assert torch.isfinite(soft.grad).all()
    assert (soft.grad.abs().sum((1, 2)) > 0).all()
    assert all(parameter.grad is None for parameter in reader.model.parameters())


def test_prompts_keep_their_beginning_token_and_their_end(reader: Reader) -> None:
    whole = reader.encode("red blue green stone")
    assert whole[: len(reader.bos)] == reader.bos
    assert reader.encode("red blue green stone", 2) == [*reader.bos, *whole[-2:]]


def test_a_prompt_and_answer_that_merge_are_refused(reader: Reader) -> None:
    with pytest.raises(ModelError, match="merges"):
        reader.answer_ids("Colour", "")


def test_loading_draws_no_bar(world: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Reader.load(world / "models/llama", "float32", None, torch.device("cpu"))
    assert capfd.readouterr() == ("", "")


def test_a_reader_that_is_let_go_is_gone_at_once(world: Path) -> None:
    """Those that arms put weights into are loaded for each job, and each is large."""
    gc.disable()
    try:
        reader = Reader.load(world / "models/llama", "float32", None, torch.device("cpu"))
        answer(reader, [[[5, 6, 7, 8, 9]], [[5, 6, 7, 8, 10]]], [[11]], 2)  # which keeps a prefix
        left, model = weakref.ref(reader), weakref.ref(reader.model)
        del reader
        assert left() is None
        assert model() is None
    finally:
        gc.enable()


def test_what_refers_to_itself_is_gone_before_another_is_loaded(world: Path) -> None:
    cpu = torch.device("cpu")
    gc.disable()
    try:
        own = _load.__wrapped__(False, None, False, world / "models/llama", "float32", None, cpu)
        own.cycle = own
        left = weakref.ref(own)
        del own
        assert left() is not None
        _load.__wrapped__(False, None, False, world / "models/mistral", "float32", None, cpu)
        assert left() is None
    finally:
        gc.enable()
