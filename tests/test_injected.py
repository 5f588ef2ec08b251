"""Keys, values and hidden states that a model is given, against reading the same tokens itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from lwspec.errors import ModelError
from lwspec.kernels.message import Graft
from lwspec.kernels.methods.latent_steps import alignment, think
from lwspec.kernels.models.answer_logits import answer_logits
from lwspec.kernels.models.answering import answer
from lwspec.kernels.models.blocks import blocks_of
from lwspec.kernels.models.hidden import hidden_states
from lwspec.kernels.models.keys_values import as_cached, as_vectors, from_vectors, keys_values
from lwspec.kernels.models.reader import Reader

TEXTS = ["red blue", "green stone river cloud quick slow warm", "dark"]


@pytest.fixture(params=["llama", "mistral", "qwen"])
def reader(request: pytest.FixtureRequest, world: Path) -> Reader:
    return Reader.load(world / "models" / request.param, "float32", None, torch.device("cpu"))


def test_what_was_read_elsewhere_counts_as_if_it_had_been_read_here(reader: Reader) -> None:
    texts = [reader.encode(f"Text: {text}") for text in TEXTS]
    query = reader.encode("\nColour:")[len(reader.bos) :]
    labels = [reader.answer_ids("Colour:", f" {label}") for label in ("red", "green stone")]
    with torch.no_grad():
        given = [as_cached(one) for one in keys_values(reader, [[text] for text in texts])]
    whole = answer(reader, [[text + query] for text in texts], labels, 6)
    handed = answer(reader, [[one, query] for one in given], labels, 6)
    torch.testing.assert_close(handed.label_logprobs, whole.label_logprobs, atol=1e-4, rtol=1e-4)
    assert handed.written == whole.written


def test_a_layer_that_is_given_nothing_has_nothing_of_those_tokens(reader: Reader) -> None:
    query = reader.encode("\nColour:")[len(reader.bos) :]
    labels = [reader.answer_ids("Colour:", " red")]
    with torch.no_grad():
        ((whole),) = keys_values(reader, [[reader.encode("Text: dark river")]])
    depth = len(whole)

    def score(layers: list[int]) -> torch.Tensor:
        return answer(reader, [[as_cached(whole[layers], layers), query]], labels).label_logprobs

    everything, some, others = score([*range(depth)]), score([0]), score([depth - 1])
    nothing = answer(reader, [[as_cached(whole[..., :0, :]), query]], labels).label_logprobs
    alone = answer(reader, [[query]], labels).label_logprobs
    assert len({round(float(x), 5) for x in (everything, some, others, alone)}) == 4
    torch.testing.assert_close(nothing, alone, atol=1e-5, rtol=1e-5)


def test_gradients_reach_keys_and_values(reader: Reader) -> None:
    query = reader.encode("\nColour:")[len(reader.bos) :]
    with torch.no_grad():
        (given,) = keys_values(reader, [[reader.encode("Text: dark river")]])
    given = given.clone().requires_grad_()
    prompts = [[as_cached(given), query], [as_cached(given[..., :2, :]), query]]
    logits, _ = answer_logits(reader, prompts, [query[:2], query[:1]])
    (gradient,) = torch.autograd.grad(logits.logsumexp(-1).sum(), given)
    assert bool((gradient.flatten(0, -3).abs().sum((-2, -1)) > 0).all())


def test_a_graft_changes_the_tokens_before_it_from_its_layer_on(reader: Reader) -> None:
    prompts = [[reader.encode(text)] for text in TEXTS]
    torch.manual_seed(0)
    states = torch.randn(2, reader.width)

    def seen(share: float, layers: tuple[int, ...], at: int) -> list[torch.Tensor]:
        grafted = [[*prompt, Graft(layers, states, share)] for prompt in prompts]
        return hidden_states(reader, grafted, at)

    plain = hidden_states(reader, prompts, 1)
    for row, (whole, none) in enumerate(zip(seen(1.0, (1,), 1), seen(0.0, (1,), 1), strict=True)):
        torch.testing.assert_close(none, plain[row])
        torch.testing.assert_close(whole[-2:], states)
        torch.testing.assert_close(whole[:-2], plain[row][:-2])
    for row, half in enumerate(seen(0.5, (1,), 1)):
        torch.testing.assert_close(half[-2:], 0.5 * states + 0.5 * plain[row][-2:])


def test_the_last_states_given_decide_what_is_said(reader: Reader) -> None:
    texts = [reader.encode(text) for text in TEXTS]
    labels = [reader.answer_ids("", "red"), reader.answer_ids("", "dark")]
    depth = len(blocks_of(reader.model))
    donor = hidden_states(reader, [[texts[0]]], depth - 1)[0][-1:]
    plain = answer(reader, [[texts[0]]], [labels[0]]).label_logprobs
    # A prompt of one length whose last token is replaced before the last block by another's.
    same = [[texts[0], Graft((depth - 1,), donor)]]
    torch.testing.assert_close(answer(reader, same, [labels[0]]).label_logprobs, plain)
    other = [[texts[0], Graft((depth - 1,), -donor)]]
    assert not torch.allclose(answer(reader, other, [labels[0]]).label_logprobs, plain)


def test_a_layer_that_the_model_lacks_is_refused(reader: Reader) -> None:
    ids = reader.encode("red")
    depth = len(blocks_of(reader.model))
    with pytest.raises(ModelError, match=f"the model has {depth}"):
        answer(reader, [[ids, Graft((depth,), torch.zeros(1, reader.width))]], [[1]])


def test_a_model_of_another_attention_is_refused(world: Path) -> None:
    other = Reader.load(world / "models" / "gpt", "float32", None, torch.device("cpu"))
    other.by_position = False  # as of those whose layers keep a state of their own
    with pytest.raises(ModelError, match="keep more than keys and values"):
        keys_values(other, [[[1, 2]]])


def test_keys_that_a_sliding_window_would_forget_are_refused(world: Path) -> None:
    folder = world / "models" / "qwen"
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    own = AutoConfig.from_pretrained(
        folder, layer_types=kinds, use_sliding_window=True, sliding_window=8
    )
    model = AutoModelForCausalLM.from_pretrained(folder, config=own)
    windowed = Reader(model, AutoTokenizer.from_pretrained(folder), torch.device("cpu"))
    assert windowed.model.config.sliding_window == 8
    text, query = [5, 6, 7, 8], [9, 10]
    labels = [[11, 12, 13], [14]]
    with torch.no_grad():
        (read,) = keys_values(windowed, [[text]])
    whole = answer(windowed, [[text + query]], labels, 3)
    handed = answer(windowed, [[as_cached(read), query]], labels, 3)
    torch.testing.assert_close(handed.label_logprobs, whole.label_logprobs, atol=1e-4, rtol=1e-4)
    assert handed.written == whole.written
    for prompt, written in ([*query, 5, 6, 7], 0), (query, 4):  # the window is of 8 tokens
        with pytest.raises(ModelError, match="layers that see 8 tokens back .* a prompt of 9"):
            answer(windowed, [[as_cached(read), prompt]], [[11]], written)
    answer(windowed, [[as_cached(read[[1]], [1]), [*query, 5, 6, 7]]], labels, 4)


def test_a_model_is_as_it_was_after_keys_could_not_be_given(world: Path) -> None:
    reader = Reader.load(world / "models" / "llama", "float32", None, torch.device("cpu"))
    with torch.no_grad():
        (read,) = keys_values(reader, [[[5, 6, 7]]])
    plain = answer(reader, [[[5, 6]]], [[11]]).label_logprobs
    block = blocks_of(reader.model)[1]
    attention = block.self_attn
    del block.self_attn
    with pytest.raises(ValueError, match="not enough values"):
        answer(reader, [[as_cached(read), [8]]], [[11]])
    block.self_attn = attention
    assert torch.equal(answer(reader, [[[5, 6]]], [[11]]).label_logprobs, plain)
    assert not any(hasattr(each.self_attn, "held") for each in blocks_of(reader.model))


def test_positions_that_are_not_rotary_are_refused(world: Path) -> None:
    other = Reader.load(world / "models" / "gpt", "float32", None, torch.device("cpu"))
    (read,) = keys_values(other, [[[5, 6, 7]]])
    for work in (
        lambda: keys_values(other, [[[5, 6, 7]]], 9),
        lambda: from_vectors(other, as_vectors(read)),
        lambda: think(other, [[[5, 6]]], 1, alignment(other, "identity")),
    ):
        with pytest.raises(ModelError, match="no rotary positions"):
            work()
