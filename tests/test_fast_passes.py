"""What makes passes fast changes no numbers: read prefixes, compiled blocks, recorded passes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig, GPTNeoConfig

from lwspec.errors import ModelError
from lwspec.kernels.models import decoding
from lwspec.kernels.models.answer_logits import _dense, _plain, answer_logits
from lwspec.kernels.models.answering import answer
from lwspec.kernels.models.compiled import dense_attention
from lwspec.kernels.models.prefix import common_prefix, without
from lwspec.kernels.models.reader import Reader

CPU = torch.device("cpu")
FAMILIES = ["llama", "mistral", "qwen", "gemma", "gpt"]
COMPILED = [
    family if family == "mistral" else pytest.param(family, marks=pytest.mark.slow)
    for family in FAMILIES
]
"""A family takes half a minute to compile."""
ANSWERS = [[5, 1], [6, 7, 1], [5, 1]]


def load(world: Path, family: str, *, compiled: bool = False) -> Reader:
    return Reader.load(world / "models" / family, "float32", None, CPU, compiled=compiled)


def soft_prompts(reader: Reader) -> tuple[list[Any], torch.Tensor]:
    """Rows that begin with one query, each with soft tokens of its own."""
    source = torch.Generator().manual_seed(0)
    soft = torch.randn(3, 4, reader.width, generator=source).requires_grad_()
    query = reader.encode("Colour:")
    return [[query, row] for row in soft.unbind()], soft


def learnt(reader: Reader) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the answers, and the gradient of the soft tokens."""
    prompts, soft = soft_prompts(reader)
    logits, tokens = answer_logits(reader, prompts, ANSWERS)
    logits[tokens != -100].log_softmax(-1)[:, 5].sum().backward()
    assert soft.grad is not None
    return logits.detach(), soft.grad


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def test_what_prompts_begin_with_is_found_up_to_their_last_token() -> None:
    soft = torch.zeros(2, 3)
    assert common_prefix([[[1, 2], soft], [[1], [2], soft]]) == (1, 2)
    assert common_prefix([[[1, 2, 3]], [[1, 2, 3]]]) == (1, 2)
    assert common_prefix([[[1, 2, 3, 4, 5]], [[1, 9, 3, 4, 5]]]) == ()  # less than half
    assert common_prefix([[soft, [1]], [soft, [1]]]) == ()
    assert common_prefix([[[1, 2, 3]]]) == ()
    (rest, kept) = without([[1, 2], [3, 4], soft], 3)
    assert rest == [4]
    assert kept is soft


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_that_was_read_once_changes_nothing(
    world: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = load(world, family)
    prompts, _ = soft_prompts(reader)
    labels = [[5], [6, 7], [6, 8, 9]]
    shared, logits = answer(reader, prompts, labels, 5), learnt(reader)
    assert reader.pad(prompts, share=True).prefix == tuple(reader.encode("Colour:"))
    monkeypatch.setattr("lwspec.kernels.models.reader.common_prefix", lambda prompts: ())
    apart, others = answer(reader, prompts, labels, 5), learnt(reader)
    assert shared.written == apart.written
    torch.testing.assert_close(shared.label_logprobs, apart.label_logprobs, atol=1e-5, rtol=1e-5)
    for one, other in zip(logits, others, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def assert_each_as_alone(reader: Reader, prompts: list[Any]) -> None:
    """What is answered to rows together is what each is answered alone."""
    labels = [[5], [6, 7], [6, 8, 9]]
    together = answer(reader, prompts, labels, 6)
    for row, prompt in enumerate(prompts):
        alone = answer(reader, [prompt], labels, 6)
        assert together.written is not None and alone.written is not None
        assert together.written[row] == alone.written[0]
        torch.testing.assert_close(
            together.label_logprobs[row], alone.label_logprobs[0], atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_other_lengths_behind_a_prefix_answer_as_each_alone(
    world: Path, family: str
) -> None:
    """Also where a window (of 8 tokens, for Gemma) is shorter than the padded prompt."""
    reader = load(world, family)
    source = torch.Generator().manual_seed(0)
    query = reader.encode("Colour:")
    soft = [torch.randn(length, reader.width, generator=source) for length in (1, 9, 3)]
    prompts: list[Any] = [[query, row] for row in soft]
    assert reader.pad(prompts, share=True).prefix
    assert_each_as_alone(reader, prompts)


@pytest.mark.parametrize("family", ["bloom", "gpt_neo"])
def test_families_that_count_tokens_by_place_answer_as_each_row_alone(
    tmp_path: Path, world: Path, family: str
) -> None:
    reader = by_place(world, family)
    assert not reader.by_position
    prompts = [[reader.encode("Colour:") + [9] * more] for more in (0, 3, 1)]
    assert_each_as_alone(reader, prompts)
    with pytest.raises(ModelError, match="compile = false"):
        Reader(reader.model, reader.tokenizer, CPU, compiled=True)


def by_place(world: Path, family: str) -> Reader:
    """A model whose attention goes by where tokens lie, with the tokenizer of another."""
    torch.manual_seed(0)
    config = {
        "bloom": BloomConfig(vocab_size=290, hidden_size=32, n_layer=2, n_head=4),
        "gpt_neo": GPTNeoConfig(
            vocab_size=290, hidden_size=32, num_layers=2, num_heads=4, window_size=4,
            attention_types=[[["global", "local"], 1]], max_position_embeddings=64,
        ),
    }[family]  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    return Reader(model, load(world, "llama").tokenizer, CPU)


def test_a_prefix_is_not_kept_over_weights_that_are_trained(world: Path) -> None:
    reader = load(world, "mistral")
    prompts, _ = soft_prompts(reader)
    reader.frozen = False
    assert reader.pad(prompts, share=True).prefix == ()


@pytest.mark.parametrize("family", COMPILED)
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("dense_tokens", [128, 0])
def test_what_is_recorded_on_a_gpu_is_the_plain_pass(
    world: Path, family: str, dense_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is too long for dense attention."""
    monkeypatch.setattr("lwspec.kernels.models.answer_logits.DENSE_TOKENS", dense_tokens)
    reader = load(world, family)
    prompts, _ = soft_prompts(reader)
    padded = reader.pad(prompts, [said[:-1] for said in ANSWERS], share=True)
    tensors = padded.embeds.detach(), padded.mask, padded.positions
    recorded = _dense(reader, reader.prefix(padded.prefix), padded.prefix, 3, *tensors)
    torch.testing.assert_close(recorded, _plain(reader, padded, 3), atol=1e-5, rtol=1e-4)
    whole = reader.pad(prompts, [said[:-1] for said in ANSWERS])
    tensors = whole.embeds.detach(), whole.mask, whole.positions
    recorded = _dense(reader, reader.prefix(()), (), 3, *tensors)
    torch.testing.assert_close(recorded, _plain(reader, whole, 3), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", COMPILED)
@pytest.mark.usefixtures("fresh_compiler")
def test_the_step_that_is_recorded_on_a_gpu_writes_what_the_plain_way_writes(
    world: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a read prefix and without, and where it has room for more rows than there are."""
    reader = load(world, family)
    prompts, _ = soft_prompts(reader)
    longer = [*prompts[:1], [*prompts[1], [7, 8, 9]]]  # of other lengths
    batches = [(prompts, 12), (longer, 12), (longer[1:], 9)]
    assert reader.pad(prompts, share=True).prefix
    assert not reader.pad(longer[1:], share=True).prefix
    plain = [answer(reader, *batch_of(some, most)).written for some, most in batches]
    monkeypatch.setattr(decoding, "records", lambda reader, padded: True)
    assert [answer(reader, *batch_of(some, most)).written for some, most in batches] == plain
    step = reader.passes.get(decoding.KEY)
    assert (step.rows, step.length) == (3, decoding.TOKENS)


def batch_of(prompts: list[Any], most: int) -> tuple[list[Any], list[list[int]], int]:
    """What is asked: two labels, and so many tokens."""
    return prompts, [[5], [6, 7]], most


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("fresh_compiler")
def test_recorded_steps_write_what_the_plain_way_writes(world: Path, family: str) -> None:
    path, cuda = world / "models" / family, torch.device("cuda")
    plain = Reader.load(path, "float32", None, cuda)
    compiled = Reader.load(path, "float32", None, cuda, compiled=True)
    prompts, _ = soft_prompts(plain)
    longer = [*prompts[:1], [*prompts[1], [7, 8, 9] * 30]]
    for some, most in [(prompts, 12), (longer, 12), (longer[1:], 9), (prompts * 7, 12)]:
        ours, theirs = (answer(each, *batch_of(some, most)) for each in (compiled, plain))
        assert ours.written == theirs.written
    assert compiled.passes.get(decoding.KEY).rows == 32
    assert plain.passes.get(decoding.KEY) is None


def test_dense_attention_by_loops() -> None:
    source = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, 2, 3, generator=source)
    key, value = torch.randn(2, 1, 2, 5, 3, generator=source).unbind()
    mask = torch.zeros(1, 1, 2, 5)
    mask[..., 0, 4] = torch.finfo(torch.float32).min
    module = SimpleNamespace(prefix=(key[..., :3, :], value[..., :3, :]))
    last = slice(3, None)
    mixed, _ = dense_attention(
        module, query, key[..., last, :], value[..., last, :], mask, 0.5, softcap=2.0
    )
    for head in range(4):
        for place in range(2):
            scores = [0.5 * float(query[0, head, place] @ key[0, head // 2, k]) for k in range(5)]
            seen = [
                2 * math.tanh(score / 2) + float(mask[0, 0, place, k])
                for k, score in enumerate(scores)
            ]
            powers = [math.exp(score) for score in seen]
            expected = sum(p * value[0, head // 2, k] for k, p in enumerate(powers)) / sum(powers)
            torch.testing.assert_close(mixed[0, place, head], expected)


@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_blocks_say_and_teach_the_same(world: Path) -> None:
    plain, compiled = load(world, "mistral"), load(world, "mistral", compiled=True)
    for one, other in zip(learnt(compiled), learnt(plain), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    prompts, _ = soft_prompts(plain)
    ours, theirs = (answer(reader, prompts, [[5], [6, 7]], 5) for reader in (compiled, plain))
    assert ours.written == theirs.written
    torch.testing.assert_close(ours.label_logprobs, theirs.label_logprobs, atol=1e-5, rtol=1e-5)
