"""A world small enough to run in seconds: an untrained pair of real models, rows, and a spec."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest
from commands import Commands

pytest_plugins = ["slurm.fixtures"]

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
}

WORDS = "red blue green stone river cloud quick slow warm cold bright dark".split()

SPEC = """\
schema = 1
name = "small"

[budget]
gpu_hours = 2.0
gpu = "cpu"
gpus = 2

[resources]
gpus = 0
threads = 1

[models.llama]
path = "models/llama"
dtype = "float32"

[models.mistral]
path = "models/mistral"
dtype = "float32"

[tasks.colour]
kind = "classification"
data = { path = "json", data_files = { train = "data/train.jsonl", test = "data/test.jsonl" } }
splits = { train = "train", validation = { from = "train", rows = 12 }, test = "test" }
context = "{text}"
label = "label"
labels = ["red", "blue", "green stone"]
sender_prompt = "Text: {context}\\nColour:"
receiver_prompt = "Text: {context}\\nColour:"
query = "Colour:"
max_prompt_tokens = 40

[defaults]
sender = "llama"
receiver = "mistral"
tasks = ["colour"]
seeds = [1, 2]
train = { samples = 48, epochs = 2, batch_size = 8, learning_rate = 1e-3, warmup_steps = 2 }

[[experiment]]
name = "main"
arms = ["bridge"]
bridge = { layer = 1, latents = 4, width = 16, depth = 1, heads = 2 }

[[experiment]]
name = "probe"
arms = ["linear_probe"]
linear_probe = { layer = 1, folds = 2, inverse_penalties = [0.1, 1.0] }

[[experiment]]
name = "direct"
arms = ["sender_direct", "receiver_direct", "truncated", "no_message"]

[[experiment]]
name = "relay"
arms = ["text_relay"]
text_relay = { prompt = "Text: {context}\\nKeywords:", max_new_tokens = 6 }

[[table]]
name = "main"
experiments = ["direct", "relay", "probe", "main"]
caption = "Accuracy of small_models & friends, 100%."

[[figure]]
name = "curves"
kind = "learning_curves"
experiments = ["main"]
caption = "Learning."

[paper]
template = "paper.tex"
title = "A small test"
"""


SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def make_tokenizer(folder: Path, size: int, special: Mapping[str, str] = SPECIAL) -> None:
    """A byte-level BPE tokenizer with the special tokens that a family has."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"Text: {' '.join(WORDS)}\nColour: Keywords:"] * 3, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


def make_pair(folder: Path) -> None:
    """An untrained Llama and an untrained Mistral of other widths, depths and vocabularies."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

    common = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
    common |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "initializer_range": 0.2}
    torch.manual_seed(0)
    llama = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=3, **common
    )
    mistral = MistralConfig(
        vocab_size=290, hidden_size=24, intermediate_size=48, num_hidden_layers=2,
        sliding_window=None, **common,
    )  # fmt: skip
    LlamaForCausalLM(llama).save_pretrained(folder / "llama")
    MistralForCausalLM(mistral).save_pretrained(folder / "mistral")
    make_tokenizer(folder / "llama", 300)
    make_tokenizer(folder / "mistral", 290)


def make_families(folder: Path) -> None:
    """Untrained decoders of other families: sliding windows, soft caps, learned positions.

    The Qwen has neither beginning-of-text nor padding token, the GPT-2 one token for all.
    """
    import torch
    from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, Qwen2Config

    small = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 3}
    small |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 290}
    small |= {"initializer_range": 0.2, "max_position_embeddings": 128}
    torch.manual_seed(1)
    configs = {
        "qwen": Qwen2Config(**small, tie_word_embeddings=True),
        "gemma": Gemma2Config(**small, head_dim=8, sliding_window=8, query_pre_attn_scalar=8),
        "gpt": GPT2Config(
            n_embd=24, n_layer=3, n_head=4, n_positions=128, vocab_size=290, initializer_range=0.2
        ),
    }
    special = {"qwen": {"eos_token": "</s>"}, "gpt": {"bos_token": "</s>", "eos_token": "</s>"}}
    for name, config in configs.items():
        AutoModelForCausalLM.from_config(config).save_pretrained(folder / name)
        make_tokenizer(folder / name, 290, special.get(name, SPECIAL))


def make_rows(folder: Path) -> None:
    """Train and test rows; one test text also stands in train."""
    source = random.Random(0)
    folder.mkdir(parents=True)
    for split, count in (("train", 80), ("test", 30)):
        rows = [
            {"text": " ".join(source.choices(WORDS, k=source.randint(3, 12))), "label": i % 3}
            for i in range(count)
        ]
        if split == "test":
            rows[0]["text"] = json.loads((folder / "train.jsonl").read_text().splitlines()[0])[
                "text"
            ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and rows, made once; a test links to them from a project of its own."""
    folder = tmp_path_factory.mktemp("world")
    make_pair(folder / "models")
    make_families(folder / "models")
    make_rows(folder / "data")
    return folder


@cache
def commands() -> Commands:
    """Where the tests of this process run commands."""
    return Commands(ENVIRONMENT)


class Project:
    """A folder with a spec in it, and the command line run there as a user would."""

    def __init__(self, folder: Path, world: Path) -> None:
        self.folder = folder
        for name in ("models", "data"):
            (folder / name).symlink_to(world / name)
        (folder / "paper.tex").write_text((ROOT / "specs/paper.tex").read_text())
        self.write(SPEC)

    @property
    def spec(self) -> Path:
        return self.folder / "small.toml"

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    def write(self, text: str) -> None:
        self.spec.write_text(text)

    def change(self, old: str, new: str) -> None:
        text = self.spec.read_text()
        assert old in text, old
        self.write(text.replace(old, new))

    def keep(self, *experiments: str) -> None:
        """Drop the other experiments, so that a test runs only what it is about."""
        head, *blocks = self.spec.read_text().split("[[experiment]]\n")
        last, tail = blocks[-1].split("[[table]]", 1)
        kept = [b for b in (*blocks[:-1], last) if b.split('"')[1] in experiments]
        listed = ", ".join(f'"{name}"' for name in experiments)
        table, figure = tail.split("[[figure]]", 1)
        table = re.sub(r"experiments = \[.*?\]", f"experiments = [{listed}]", table, count=1)
        if "main" not in experiments:
            figure = re.sub(r"experiments = \[.*?\]", f"experiments = [{listed}]", figure, count=1)
        tail = f"{table}[[figure]]{figure}"
        self.write("".join([head, *(f"[[experiment]]\n{b}" for b in kept), "[[table]]", tail]))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "lwspec", *arguments]

    def run(
        self, *arguments: str, status: int | None = 0, timeout: float = 240
    ) -> subprocess.CompletedProcess[str]:
        """Run `lwspec ...` in a process of its own and check its exit status."""
        done = commands().run(arguments, self.folder, ENVIRONMENT, timeout)
        assert status is None or done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def files(self) -> set[str]:
        """Everything below the folder that the command line made."""
        made = (p.relative_to(self.folder) for p in self.folder.rglob("*"))
        return {str(p) for p in made if p.parts[0] not in ("models", "data")}


@pytest.fixture
def project(tmp_path: Path, world: Path) -> Project:
    """A fresh project with the small spec."""
    return Project(tmp_path, world)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, world: Path) -> Project:
    """A project whose whole plan has run, shared by tests that only read it."""
    project = Project(tmp_path_factory.mktemp("finished"), world)
    project.run("plan", "small.toml")
    project.run("submit")
    return project


@pytest.fixture(scope="session")
def copy_of_finished(
    finished: Project, tmp_path_factory: pytest.TempPathFactory, world: Path
) -> Callable[[], Project]:
    """A copy of the finished project, for tests that damage or extend it."""

    def copy() -> Project:
        project = Project(tmp_path_factory.mktemp("copy"), world)
        shutil.copytree(finished.runs, project.runs)
        return project

    return copy
