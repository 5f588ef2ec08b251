"""Fits an hour on one GPU and on all GPUs of this host, by the local executor.

    python bench/two_gpus.py [DOCUMENT]

A pair of random models of 0.9 billion parameters, as many seeds of the bridge as there are GPUs,
each a job of its own, with its process's start. What they read is made before and not counted.
Writes a section of DOCUMENT where one is given.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from section import replace_section
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM as Causal
from transformers import LlamaConfig, MistralConfig, PreTrainedTokenizerFast

from lwspec.cli.session import open_session
from lwspec.engine.executors.local import LocalExecutor, Slots, gpu_ids
from lwspec.engine.executors.submit import LOCAL, write_jobs
from lwspec.engine.job import Job
from lwspec.engine.plan.pack import packs
from lwspec.engine.plan.plan import Plan
from lwspec.engine.runs.runfolder import Runs
from lwspec.engine.spec.spec import Retries
from lwspec.kernels.toy.text import rows

LABELS = ("world", "sports", "business", "science")

SPEC = """
schema = 1
name = "gpus"
[budget]
gpu_hours = 10.0
gpu = "h100"
gpus = 2
[resources]
gpus = 1
threads = 4
[models.llama]
path = "llama"
[models.mistral]
path = "mistral"
[tasks.topic]
kind = "classification"
data = { toy = "topic" }
splits = { train = "train", validation = { from = "train", rows = 100 }, test = "test" }
context = "{text}"
label = "label"
labels = ["world", "sports", "business", "science"]
sender_prompt = "Article: {context}\\nTopic:"
receiver_prompt = "Article: {context}\\nTopic:"
query = "Topic:"
max_prompt_tokens = 100
[defaults]
sender = "llama"
receiver = "mistral"
tasks = ["topic"]
seeds = SEEDS
train = { samples = 1600, epochs = 1, batch_size = 16 }
[[experiment]]
name = "main"
arms = ["bridge"]
bridge = { layer = 8, latents = 8, width = 1024, depth = 2, heads = 8 }
"""


def make_pair(folder: Path) -> None:
    """Two random models, with a tokenizer of the toy texts."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=special, show_progress=False)
    texts = [str(row["text"]) for row in rows("topic", "train")[:500]]
    said = [f"Article: Topic: {label}" for label in LABELS]
    bpe.train_from_iterator([*texts, *said], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>")
    size = {"hidden_size": 2048, "intermediate_size": 7168, "num_hidden_layers": 16}
    size |= {"num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 1000}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name, config in (("llama", LlamaConfig(**size)), ("mistral", MistralConfig(**size))):
        with torch.device(device):
            Causal.from_config(config, dtype=torch.bfloat16).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


def run(plan: Plan, runs: Path, jobs: Sequence[Job], gpus: Sequence[str]) -> float:
    """Seconds until all are done. Raises AssertionError where one fails."""
    write_jobs(plan, Runs(runs), {job.id: 1e6 for job in jobs}, LOCAL)
    slots = Slots(16, tuple(gpus))
    executor = LocalExecutor(Runs(runs), packs(jobs, 1), slots, 10.0, Retries(), fork=False)
    began = time.monotonic()
    executor.run(lambda tick: None)
    for job in jobs:
        assert not Runs(runs).folder(job.id).owed(job.outputs), f"{job.label} is not done"
    return time.monotonic() - began


def main() -> None:
    """Train a fit for each GPU on one of them, then on all, and print."""
    gpus = gpu_ids()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_pair(folder)
        spec = folder / "gpus.toml"
        spec.write_text(SPEC.replace("SEEDS", str([1 + n for n in range(len(gpus))])))
        plan = open_session(spec, folder / "results.db", folder / "runs").plan
        jobs = list(plan.expansion.jobs.values())
        fits = [job for job in jobs if job.kind == "fit"]
        run(plan, folder / "runs", [job for job in jobs if job.kind == "prepare"], gpus[:1])
        shutil.copytree(folder / "runs", folder / "all")
        one = run(plan, folder / "runs", fits, gpus[:1])
        print(f"one GPU {one:.1f} s", flush=True)
        every = run(plan, folder / "all", fits, gpus)
    card = torch.cuda.get_device_name()
    lines = [
        f"| {len(fits)} fits of an epoch of a 0.9-billion pair | seconds | fits an hour |",
        "|---|---|---|",
        f"| one GPU | {one:.1f} | {3600 * len(fits) / one:.0f} |",
        f"| {len(gpus)} GPUs | {every:.1f} | {3600 * len(fits) / every:.0f} |",
        f"\n{one / every:.2f} times as many.",
    ]
    print("\n".join(lines))
    if len(sys.argv) > 1:
        replace_section(Path(sys.argv[1]), f"On {len(gpus)} {card}", "\n".join(lines))


if __name__ == "__main__":
    main()
