"""A training step of the bridge between an 8B and a 7B model: as it is plainly written, and ours.

    python bench/training.py [--tiny]

The architectures of Llama-3.1-8B and Mistral-7B with random weights, since speed does not care what
a model knows; --tiny is for a machine without a GPU. "Plain" runs the sender on every batch, reads
the receiver's logits at all positions and trains one seed. Ours reads stored states, through the
trainer's own code, alone and for five seeds side by side. Prints medians in milliseconds.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
)

from lwspec.kernels.arm import Setup
from lwspec.kernels.arms.bridge import ARM, Settings
from lwspec.kernels.hidden import hidden_states
from lwspec.kernels.items import Items
from lwspec.kernels.perceiver import Perceiver
from lwspec.kernels.reader import Reader
from lwspec.kernels.receiver_pass import answer
from lwspec.kernels.rows import Row
from lwspec.kernels.setup import answers_of
from lwspec.kernels.stored import States, write_states
from lwspec.kernels.trainer import Trainer

LABELS = ("w1", "w2", "w3", "w4")
ROWS, BATCH, WORDS, SEEDS = 64, 16, 45, 5
TASK = {"query": "w9 :", "answer": " {label}", "labels": LABELS}
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


def plain_step(
    scale: Size, sender: Reader, receiver: Reader, rows: Sequence[Row]
) -> Callable[[], None]:
    """One step as it is usually written: everything anew for each batch."""
    bridge = make_bridge(scale, receiver, torch.bfloat16)
    optimizer = torch.optim.AdamW(bridge.parameters(), lr=1e-4, weight_decay=0.01)
    chosen = rows[:BATCH]

    def step() -> None:
        given = sender.tokenizer([row.context for row in chosen], return_tensors="pt", padding=True)
        given = given.to(sender.device)
        with torch.no_grad():
            states = sender.model(
                input_ids=given.input_ids, attention_mask=given.attention_mask,
                output_hidden_states=True,
            ).hidden_states[scale.layer]  # fmt: skip
        soft = bridge(states, given.attention_mask == 0)
        said = [receiver.tokenizer.encode(f"{row.target}") + [receiver.eos] for row in chosen]
        query = receiver.encode(TASK["query"])  # type: ignore[arg-type]
        before = receiver.embed(query).expand(len(chosen), -1, -1)
        answers = torch.tensor(said, device=receiver.device)
        embeds = torch.cat([before, soft, receiver.embedding(answers)], 1)
        logits = receiver.model(inputs_embeds=embeds, use_cache=False).logits
        start = embeds.shape[1] - answers.shape[1] - 1
        loss = functional.cross_entropy(
            logits[:, start:-1].float().flatten(0, 1), answers.flatten()
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(bridge.parameters(), 1.0)
        optimizer.step()
        loss.item()

    return step


class NoAttempt:
    """In the place of an attempt: nothing is recorded."""

    def __init__(self) -> None:
        settings = {"train": TRAIN, "seed": 0}
        self.job = type("Job", (), {"settings": settings, "outputs": ("epoch-001",)})

    def event(self, kind: str, **fields: Any) -> None:
        """Say nothing."""


def make_trainers(
    scale: Size, receiver: Reader, rows: Sequence[Row], states: States, seeds: int
) -> list[Trainer]:
    """The trainer that jobs use, once a seed."""
    items = Items(rows, range(len(rows)), states, None, None)
    made = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        module = make_bridge(scale, receiver, torch.float32)
        setup = Setup(scale.bridge, TASK, receiver, states.width, module=module)
        attempt = cast("Any", NoAttempt())
        made.append(Trainer(attempt, ARM, setup, module, answers_of(setup), items, items))
    return made


def our_step(trainers: Sequence[Trainer]) -> Callable[[], None]:
    """One step of every trainer, asking the receiver for all at once."""
    place = 0

    def step() -> None:
        nonlocal place
        indices = [(place + n) % ROWS for n in range(BATCH)]
        place += BATCH
        going = [trainer.step(indices, place) for trainer in trainers]
        told, _ = answer([next(each) for each in going], together=True)
        for each, said in zip(going, told, strict=True):
            if isinstance(said, Exception):
                raise said
            try:
                each.send(said)
            except StopIteration:
                continue

    return step


def median_ms(step: Callable[[], None], repeats: int, device: torch.device) -> float:
    """Of a step, after three that do not count."""
    taken = []
    for number in range(repeats + 3):
        began = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= 3:
            taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken)


def store(sender: Reader, rows: Sequence[Row], layer: int, path: Path) -> States:
    """The sender's states of all rows, as its job stores them."""
    prompts = [[sender.encode(row.context)] for row in rows]
    made: list[Tensor] = [state.cpu() for state in hidden_states(sender, prompts, layer)]
    write_states(path, made, sender.width)
    return States([path])


def main() -> None:
    """Time all ways one after the other, and print."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    scale, rows = size(tiny="--tiny" in sys.argv), make_rows()
    print(f"{name}, torch {torch.__version__}", flush=True)
    sender = make_reader(scale.sender, device)
    receiver = make_reader(scale.receiver, device)
    plain = median_ms(plain_step(scale, sender, receiver, rows), scale.repeats, device)
    print(f"plain, one seed              {plain:8.1f} ms", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        states = store(sender, rows, scale.layer, Path(folder) / "states.safetensors")
        del sender
        trainers = make_trainers(scale, receiver, rows, states, SEEDS)
        alone = median_ms(our_step(trainers[:1]), scale.repeats, device)
        print(f"ours, one seed               {alone:8.1f} ms, {plain / alone:5.2f} times less")
        beside = median_ms(our_step(trainers), scale.repeats, device) / SEEDS
        print(f"ours, a seed of five         {beside:8.1f} ms, {plain / beside:5.2f} times less")
    if device.type == "cuda":
        print(f"peak memory                  {torch.cuda.max_memory_allocated() / 1e9:8.1f} GB")


if __name__ == "__main__":
    main()
