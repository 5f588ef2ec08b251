"""What the receiver runs on: layouts, the beginning-of-text token, calibration, compression."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lwspec.errors import ModelError
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.arms import all_arms, llmlingua
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.methods.perceiver import Perceiver, pad_states
from lwspec.kernels.models.answering import answer
from lwspec.kernels.models.reader import Reader

SOFT = torch.zeros(2, 24)


def load(world: Path, name: str) -> Reader:
    return Reader.load(world / "models" / name, "float32", None, torch.device("cpu"))


@pytest.mark.parametrize(
    ("layout", "bos", "order"),
    [
        ("query_message", "first", "bqm"),
        ("message_query", "first", "bmq"),
        ("query_message", "none", "qm"),
        ("message_query", "none", "mq"),
        ("message_query", "answer", "mqb"),
        ("query_message", "answer", "qmb"),
    ],
)
def test_the_parts_of_a_prompt_stand_where_the_layout_says(
    world: Path, layout: str, bos: str, order: str
) -> None:
    reader, arm = load(world, "mistral"), all_arms()["bridge"]
    settings = arm.declaration.settings.model_validate({"layer": 1, "layout": layout, "bos": bos})
    prompt = arm.present(Setup(settings, {"query": "Why {who}?"}, reader, 32), SOFT, SEEN)
    names = {id(SOFT): "m"}
    query = reader.encode("Why you?")[1:]
    shown = "".join(
        names.get(id(part)) or ("b" if part == reader.bos else "q" if part == query else "?")
        for part in prompt
    )
    assert shown == order


SEEN = Seen(None, {"who": "you"})


@pytest.mark.parametrize("calibration", ["learned", "fixed", "example"])
def test_a_message_leaves_with_the_root_mean_square_that_is_asked_for(calibration: str) -> None:
    torch.manual_seed(0)
    given = {"width": 16, "latents": 4, "depth": 1, "heads": 2, "rms": 0.3}
    module = Perceiver(32, 24, calibration=calibration, **given)
    with torch.no_grad():
        module.leave.weight[0] *= 50  # so that tokens differ in size
        soft = module(*pad_states([torch.randn(5, 32), torch.randn(9, 32)], torch.device("cpu")))
    token = soft.pow(2).mean(-1).sqrt()
    whole = soft.pow(2).mean((-2, -1)).sqrt()
    torch.testing.assert_close(whole, torch.full((2,), 0.3))
    assert torch.allclose(token, torch.full((2, 4), 0.3), atol=1e-4) is (calibration != "example")
    assert ("scale" in dict(module.named_parameters())) is (calibration == "learned")
    assert "scale" in module.state_dict()


@pytest.mark.parametrize("family", ["mistral", "qwen", "gemma", "gpt"])
def test_soft_tokens_have_the_size_of_what_a_family_is_run_on(world: Path, family: str) -> None:
    """A Gemma scales its embeddings; its soft tokens must be as large as what comes out of that."""
    reader = load(world, family)
    vectors = reader.embed(list(range(290))).pow(2).mean(-1).sqrt()
    assert reader.embedding_rms == pytest.approx(float(vectors.median()), rel=1e-5)
    arm = all_arms()["prompt_tuning"]
    settings = arm.declaration.settings.model_validate({"text": False})
    module = arm.build(Setup(settings, {}, reader, None))
    sizes = module["prompt"].detach().pow(2).mean(-1).sqrt()
    assert float(sizes.min()) > float(vectors.min()) * 0.99


class NoEmbeddings(torch.nn.Module):
    """A model that cannot be run on embeddings."""

    def forward(self, input_ids: Any) -> Any:
        raise AssertionError


def test_a_model_without_inputs_embeds_is_refused_with_the_remedy(world: Path) -> None:
    reader = load(world, "mistral")
    with pytest.raises(ModelError, match="takes no inputs_embeds") as refused:
        Reader(NoEmbeddings(), reader.tokenizer, torch.device("cpu"))
    assert "choose a decoder" in str(refused.value)


def test_a_prompt_longer_than_the_context_is_refused_with_the_remedy(world: Path) -> None:
    reader = load(world, "gpt")
    with pytest.raises(ModelError, match="longer than the model's context, 128"):
        reader.pad([[[5] * 129]])


def test_a_tokenizer_without_a_padding_token_pads_nothing_into_the_prompt(world: Path) -> None:
    """Rows are padded as masked embeddings, so no padding token is ever needed."""
    reader = load(world, "gpt")
    assert reader.tokenizer.pad_token is None
    prompts = [[reader.encode("red")], [reader.encode("blue green stone river")]]
    both = answer(reader, prompts, [[5], [6]]).label_logprobs
    for row, prompt in enumerate(prompts):
        alone = answer(reader, [prompt], [[5], [6]]).label_logprobs[0]
        torch.testing.assert_close(both[row], alone, atol=1e-4, rtol=1e-4)


@pytest.fixture
def lingua(world: Path) -> tuple[Arm, Setup]:
    arm = all_arms()["llmlingua"]
    llmlingua.compressor.cache_clear()
    setup = Setup(arm.declaration.settings(), {}, load(world, "mistral"), None)
    return arm, setup


def test_without_the_package_the_pruning_arm_is_offered(
    lingua: tuple[Arm, Setup], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llmlingua", None)
    with pytest.raises(ModelError, match="not installed") as refused:
        lingua[0].message(lingua[1], Batch(["text"]))
    assert "perplexity_pruning" in str(refused.value)


def test_without_network_the_pruning_arm_is_offered(
    lingua: tuple[Arm, Setup], monkeypatch: pytest.MonkeyPatch
) -> None:
    import tiktoken

    def unreachable(name: str) -> Any:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(tiktoken, "encoding_for_model", unreachable)
    with pytest.raises(ModelError, match="cannot fetch what it needs") as refused:
        lingua[0].message(lingua[1], Batch(["text"]))
    assert "perplexity_pruning" in str(refused.value)


def test_llmlingua_compresses_to_the_length_asked_for(
    lingua: tuple[Arm, Setup], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real package, an untrained classifier, and bytes in place of the fetched tokenizer."""
    import tiktoken
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        PreTrainedTokenizerFast,
        XLMRobertaConfig,
        XLMRobertaForTokenClassification,
    )

    text = "red blue green stone river cloud quick slow warm cold bright dark"
    encoding = tiktoken.Encoding(
        "bytes", pat_str=r"\S+|\s+", mergeable_ranks={bytes([n]): n for n in range(256)},
        special_tokens={},
    )  # fmt: skip
    monkeypatch.setattr(tiktoken, "encoding_for_model", lambda name: encoding)
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=100, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([text] * 20, trainer)
    folder = tmp_path / "xlm-roberta-large"
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    names |= {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=520,
    )  # fmt: skip
    XLMRobertaForTokenClassification(config).save_pretrained(folder)
    arm, setup = lingua
    settings = setup.settings.model_copy(update={"model": str(folder), "tokens": 20})
    (short,) = arm.message(replace(setup, settings=settings), Batch([text]))
    assert 0 < len(short) <= 24
    assert set(short.split()) <= set(text.split())
