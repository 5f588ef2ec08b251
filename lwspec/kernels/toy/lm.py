"""Training of the toy pair: a tiny Llama that sends and a tiny Mistral that receives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from lwspec.engine.modes import like_its_folder
from lwspec.kernels.toy.text import lm_documents

SPECIALS = ("<s>", "</s>", "<pad>")
PROMPT_WEIGHT = 0.2
WARMUP = 30
BETAS = (0.9, 0.98)


@dataclass(frozen=True)
class Recipe:
    """Size and training budget of one LM."""

    width: int
    kv_heads: int
    vocabulary: int
    batch: int
    steps: int
    rate: float
    seed: int


RECIPES: dict[str, Recipe] = {
    "llama": Recipe(width=96, kv_heads=4, vocabulary=800, batch=24, steps=640, rate=2e-3, seed=1),
    "mistral": Recipe(width=64, kv_heads=2, vocabulary=640, batch=32, steps=900, rate=4e-3, seed=2),
}


def build_tokenizer(which: str, texts: list[str]) -> PreTrainedTokenizerFast:
    """Train a tokenizer that prepends <s> unless asked for no special tokens."""
    if which == "llama":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        specials, alphabet = [*SPECIALS], sorted(pre_tokenizers.ByteLevel.alphabet())
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        # Without the second splitter, punctuation and line ends merge with the words around them.
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Metaspace(prepend_scheme="first"),
                pre_tokenizers.Split(Regex(r"[\n.,:]"), behavior="isolated"),
            ]
        )
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
        specials, alphabet = [*SPECIALS, "<unk>"], ["\n", *map(chr, range(33, 127))]
    trainer = trainers.BpeTrainer(
        vocab_size=RECIPES[which].vocabulary,
        special_tokens=specials,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]
    )
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    wrap: Any = PreTrainedTokenizerFast
    wrapped: PreTrainedTokenizerFast = wrap(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        **dict(zip(names, specials, strict=False)),
    )
    return wrapped


def build_model(which: str, vocabulary: int) -> LlamaForCausalLM | MistralForCausalLM:
    """Return an untrained LM with seeded weights."""
    recipe = RECIPES[which]
    sizes: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": recipe.width,
        "intermediate_size": 3 * recipe.width,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": recipe.kv_heads,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
    }
    torch.manual_seed(recipe.seed)
    if which == "llama":
        return LlamaForCausalLM(LlamaConfig(**sizes))
    return MistralForCausalLM(MistralConfig(sliding_window=None, **sizes))


Document = tuple[list[int], int]
Batch = tuple[torch.Tensor, torch.Tensor]


def _batches(documents: list[Document], size: int, seed: int) -> Iterator[Batch]:
    """Yield (ids, loss weights) of documents of like length, in a seeded order."""
    order: list[list[Document]] = []
    for start in range(0, len(documents), 16 * size):
        chunk = sorted(documents[start : start + 16 * size], key=lambda document: len(document[0]))
        group = [chunk[i : i + size] for i in range(0, len(chunk), size)]
        Random(seed + start).shuffle(group)
        order += group
    for batch in order:
        length = max(len(ids) for ids, _ in batch)
        ids = torch.full((len(batch), length), 2)
        weights = torch.zeros(len(batch), length)
        for i, (tokens, start) in enumerate(batch):
            ids[i, : len(tokens)] = torch.tensor(tokens)
            weights[i, 1:start] = PROMPT_WEIGHT
            weights[i, start : len(tokens)] = 1.0
        yield ids, weights


def train(which: str, folder: Path, on_step: Callable[[int, int], None]) -> None:
    """Train the toy LM `which` (llama or mistral) and save it with its tokenizer in a folder."""
    recipe = RECIPES[which]
    pairs = lm_documents(which, recipe.steps * recipe.batch)
    tokenizer = build_tokenizer(which, [prompt + answer for prompt, answer in pairs[-4000:]])
    documents: list[Document] = []
    for prompt, answer in pairs:
        ids = tokenizer(prompt)["input_ids"]
        tail = tokenizer(answer, add_special_tokens=False)["input_ids"]
        documents.append((ids + tail + [1], len(ids)))
    model = build_model(which, len(tokenizer)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.rate, betas=BETAS)
    for step, (ids, weights) in enumerate(_batches(documents, recipe.batch, recipe.seed)):
        remaining = (recipe.steps - step) / (recipe.steps - WARMUP)
        optimizer.param_groups[0]["lr"] = recipe.rate * min((step + 1) / WARMUP, remaining)
        # Padding is on the right, so the causal mask alone hides it.
        logits = model(input_ids=ids[:, :-1]).logits
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        )
        weight = weights[:, 1:].flatten()
        loss = (losses * weight).sum() / weight.sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        on_step(step + 1, recipe.steps)
    model.eval().save_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        like_its_folder(file)
    tokenizer.save_pretrained(folder)
