"""The published pair at random: architectures of an 8B and a 7B model, rows, and the bridge.

Speed does not care what a model knows. Beside them a tiny pair, for a machine without a GPU.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
)

from lwspec.kernels.arms.bridge import Settings
from lwspec.kernels.data.rows import Row
from lwspec.kernels.data.stored import States, StoredBlock, write_states
from lwspec.kernels.methods.perceiver import Perceiver
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.sender import states_of

LABELS = ("w1", "w2", "w3", "w4")
ROWS, BATCH, WORDS, SEEDS = 512, 16, 45, 5
TASK = {"query": "w9 :", "answer": " {label}", "labels": LABELS}
SENDER = {"prompt": "{context}", "max_prompt_tokens": 256}
TRAIN = {
    "learning_rate": 1e-4, "weight_decay": 0.01, "batch_size": BATCH, "warmup_steps": 10,
    "schedule": "constant", "clip_norm": 1.0, "supervised_tokens": None, "first_token_weight": 0.0,
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """A pair of models and the bridge between them."""

    sender: LlamaConfig
    receiver: MistralConfig
    layer: int
    bridge: Settings
    repeats: int


def size(*, tiny: bool) -> Size:
    """The published pair, or one that a CPU trains in moments."""
    if tiny:
        small = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
        small |= {"num_key_value_heads": 2, "num_hidden_layers": 3, "vocab_size": 600}
        bridge = Settings(layer=1, latents=8, width=64, heads=4)
        return Size(LlamaConfig(**small), MistralConfig(**small), 1, bridge, 5)
    sender = LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
        num_attention_heads=32, num_key_value_heads=8, max_position_embeddings=8192,
    )  # fmt: skip
    receiver = MistralConfig(vocab_size=32768, sliding_window=None)  # the defaults are the 7B's
    return Size(sender, receiver, 16, Settings(layer=16, latents=8, width=4096), 20)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Words w0 to w500, one token each."""
    words = ["<s>", "</s>", "<pad>", "<unk>", ":", *(f"w{n}" for n in range(500))]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def make_reader(config: Any, device: torch.device) -> Reader:
    """A frozen model with random weights, in bfloat16."""
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return Reader(model, make_tokenizer(), device)


def compiled_twin(reader: Reader) -> Reader:
    """The same model compiled: it shares all weights."""
    shared = {id(each): each for each in reader.model.parameters()}
    model = copy.deepcopy(reader.model, shared)
    return Reader(model, reader.tokenizer, reader.device, compiled=True)


def linear_parameters(reader: Reader) -> int:
    """Weights of the model that every token meets: all but the embeddings."""
    whole = sum(p.numel() for p in reader.model.parameters())
    return whole - int(reader.embedding.weight.numel())


def make_rows() -> list[Row]:
    """Texts of the length of AG News' in words."""
    source = torch.Generator().manual_seed(0)
    drawn = torch.randint(500, (ROWS, WORDS), generator=source).tolist()
    texts = [" ".join(f"w{word}" for word in row) for row in drawn]
    return [Row(n, text, LABELS[n % 4], n % 4) for n, text in enumerate(texts)]


def make_bridge(scale: Size, receiver: Reader, dtype: torch.dtype) -> Perceiver:
    """The bridge of the settings, at random."""
    settings = scale.bridge
    return Perceiver(
        scale.sender.hidden_size, receiver.width, width=settings.width, latents=settings.latents,
        depth=settings.depth, heads=settings.heads, rms=receiver.embedding_rms,
    ).to(receiver.device, dtype)  # fmt: skip


def store(sender: Reader, rows: Sequence[Row], layer: int, path: Path) -> States:
    """The sender's states of all rows, as its job makes and stores them."""
    made: list[torch.Tensor] = []
    for start in range(0, len(rows), 64):
        some = states_of(sender, rows[start : start + 64], {**SENDER, "layer": layer})
        made += [state.cpu() for state in some]
    write_states(path, made, sender.width)
    return States([StoredBlock(path)])
