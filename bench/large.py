"""What the published pair costs on a GPU: as it is plainly written, and by lwspec, in one run.

    python bench/large.py [--tiny] [--writing] [DOCUMENT]

Training steps alone and of five seeds side by side, test items with and without the sender's pass,
text written by the receiver (with --writing, that alone), and the floor of each: the bytes and
operations that it cannot do without at the rates that this GPU was measured to reach. Writes two
sections of DOCUMENT where one is given.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from pair import (
    BATCH,
    LABELS,
    ROWS,
    SEEDS,
    SENDER,
    TASK,
    TRAIN,
    Size,
    compiled_twin,
    linear_parameters,
    make_bridge,
    make_reader,
    make_rows,
    size,
    store,
)
from plain import plain_item, plain_step
from section import replace_section
from timing import Rates, Say, Step, give_back, measure_rates, median_ms
from writing import time_writing

from lwspec.engine.job import Job
from lwspec.engine.plan.cost import Facts, Machine, training_work
from lwspec.engine.shapes import Shape
from lwspec.kernels.arm import Setup
from lwspec.kernels.arms.bridge import ARM
from lwspec.kernels.data.items import Items
from lwspec.kernels.data.rows import Row
from lwspec.kernels.data.stored import States, write_states
from lwspec.kernels.measuring.score import score
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.sender import states_of
from lwspec.kernels.training.behind import copied
from lwspec.kernels.training.checkpoint import save_weights
from lwspec.kernels.training.receiver_pass import answer, gradients
from lwspec.kernels.training.tasks import TrainingTask
from lwspec.kernels.training.trainer import Trainer
from lwspec.kernels.work import set_up_torch

OTHERS = ((32, 16), (8, 64))
"""Soft tokens and rows of a batch that the price of a step is tried on."""


class NoAttempt:
    """In the place of an attempt: nothing is recorded, and nothing stops."""

    def __init__(self, batch: int = BATCH) -> None:
        settings = {"train": {**TRAIN, "batch_size": batch}, "seed": 0}
        self.job = type("Job", (), {"settings": settings, "outputs": ("epoch-001",)})

    def event(self, kind: str, **fields: Any) -> None:
        """Say nothing."""

    def progress(self, done: int, total: int, what: str) -> None:
        """Say nothing."""

    def check(self) -> None:
        """Go on."""


def make_trainers(
    scale: Size,
    receiver: Reader,
    rows: Sequence[Row],
    states: States,
    seeds: int,
    batch: int = BATCH,
) -> list[Trainer]:
    """The trainer that jobs use, once a seed."""
    items = Items(rows, range(len(rows)), states, None, None)
    made = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        module = make_bridge(scale, receiver, torch.float32)
        setup = Setup(scale.bridge, TASK, receiver, states.width, module=module)
        attempt = cast("Any", NoAttempt(batch))
        made.append(
            Trainer(attempt, ARM, setup, module, [TrainingTask("rows", setup, items, items)])
        )
    return made


def our_step(trainers: Sequence[Trainer], batch: int = BATCH) -> Step:
    """One step of every trainer, asking the receiver for all at once."""
    place = 0

    def step() -> None:
        nonlocal place
        indices = [(place + n) % ROWS for n in range(batch)]
        place += batch
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


def ten(step: Step) -> Step:
    """Ten steps without waiting between them, as in training."""

    def steps() -> None:
        for _ in range(10):
            step()

    return steps


def the_pass(trainers: Sequence[Trainer]) -> Step:
    """The receiver's pass for all trainers, alone."""
    asked = [next(trainer.step(range(BATCH), 0)) for trainer in trainers]
    return lambda: gradients(asked)


def pass_floor_ms(weights: int, tokens: int, rates: Rates) -> float:
    """Forward and back to the embeddings: two products a weight each, all weights read twice."""
    operations = 4 * weights * tokens / rates.bf16
    return 1000 * max(operations, 2 * 2 * weights / rates.memory)


def fit_floor_ms(weights: int, tokens: int, rates: Rates) -> float:
    """Of a bridge in float32: its weights read forward and back, gradients written and measured,
    and what AdamW reads (weights, gradients, two moments) and writes (three of them)."""
    operations = 6 * weights * BATCH * tokens / rates.tf32
    return 1000 * (max(operations, 3 * 4 * weights / rates.memory) + 8 * 4 * weights / rates.memory)


def our_items(scale: Size, receiver: Reader, items: Items) -> Step:
    """All test items, their labels scored in full."""
    module = make_bridge(scale, receiver, torch.float32).eval()
    setup = Setup(scale.bridge, TASK, receiver, scale.sender.hidden_size, module=module)
    return lambda: score(cast("Any", NoAttempt()), ARM, setup, items)


def with_sender(
    scale: Size, sender: Reader, rows: Sequence[Row], scoring: Step, path: Path
) -> Step:
    """The sender's pass over all test items and its file, then the scoring."""

    def whole() -> None:
        made = []
        for start in range(0, len(rows), 64):
            some = states_of(sender, rows[start : start + 64], {**SENDER, "layer": scale.layer})
            made += [state.cpu() for state in some]
        write_states(path, made, sender.width)
        scoring()

    return whole


def main() -> None:
    """Time everything, print, and write the sections."""
    documents = [Path(given) for given in sys.argv[1:] if not given.startswith("--")]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    set_up_torch(1 if device.type == "cuda" else torch.get_num_threads())
    scale = size(tiny="--tiny" in sys.argv)
    rates = measure_rates(device, 5)
    sections = {f"On one {name}": time_pair, f"Tokens written on one {name}": time_writing}
    for title, measure in [*sections.items()]["--writing" in sys.argv :]:
        lines = [
            f"{name}, torch {torch.__version__}: {rates.bf16 / 1e12:.0f} TFLOP/s in bfloat16, "
            f"{rates.tf32 / 1e12:.0f} in TF32, {rates.memory / 1e12:.2f} TB/s, as measured by "
            "large products and copies.\n"
        ]
        print(lines[0], flush=True)

        def say(line: str, lines: list[str] = lines) -> None:
            lines.append(line)
            print(line, flush=True)

        measure(scale, device, rates, say)
        give_back()
        if documents:
            replace_section(documents[0], title, "\n".join(lines))


def time_pair(scale: Size, device: torch.device, rates: Rates, say: Say) -> None:
    """The pair's training and test items, by lwspec and plainly."""
    rows = make_rows()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "states.safetensors"
        sender, receiver = make_reader(scale.sender, device), make_reader(scale.receiver, device)
        states = store(sender, rows, scale.layer, path)
        before = time_plain(scale, sender, receiver, rows)
        del sender  # five bridges and both models do not fit into 80 GB
        ours = time_ours(scale, compiled_twin(receiver), rows, states, rates)
        sender = make_reader(scale.sender, device)
        after = time_plain(scale, sender, receiver, rows)
        say_training(scale, min(before, after), ours, rates, say)
        evaluation(scale, rows, states, sender, receiver, path.with_name("again"), say)


@dataclass(frozen=True)
class Ours:
    """What was timed, in milliseconds, and what the floors are computed from."""

    step_ms: Sequence[float]
    """Of one seed alone, and of five together."""
    other_ms: Sequence[float]
    """Of one seed at each of `OTHERS`."""
    pass_ms: Sequence[float]
    """The receiver's alone."""
    tokens: int
    """Of a row, behind what all begin with."""
    receiver_weights: int
    bridge_weights: int
    peak_gb: float
    copied_s: float
    """Until an epoch's weights are copied, when training goes on."""
    stored_s: float
    """Until they are stored and hashed."""


def time_plain(scale: Size, sender: Reader, receiver: Reader, rows: Sequence[Row]) -> float:
    """A plain step."""
    (ms,) = median_ms([plain_step(scale, sender, receiver, rows)], scale.repeats // 2)
    give_back()
    return ms


def time_ours(
    scale: Size, receiver: Reader, rows: Sequence[Row], states: States, rates: Rates
) -> Ours:
    """A step of one seed and of five."""
    trainers = make_trainers(scale, receiver, rows, states, SEEDS)
    first = next(trainers[0].step(range(BATCH), 0))
    padded = receiver.pad(first.prompts, [said[:-1] for said in first.answers], share=True)
    steps, passes = [], []
    for some in (trainers[:1], trainers):
        (ms,) = median_ms([ten(our_step(some))], scale.repeats // 4)
        steps.append(ms / 10)
        passes += median_ms([the_pass(some)], scale.repeats)
    peak_gb = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0
    tokens = padded.mask.shape[1]
    bridge = sum(p.numel() for p in trainers[0].learner.parameters)
    copied_s, stored_s = time_storing(trainers[0])
    del trainers, some, first, padded
    others = []
    for latents, batch in OTHERS:
        receiver.passes.drop()
        give_back()
        other = replace(scale, bridge=scale.bridge.model_copy(update={"latents": latents}))
        trainers = make_trainers(other, receiver, rows, states, 1, batch)
        others += median_ms([ten(our_step(trainers, batch))], scale.repeats // 4)
        del trainers
    receiver.passes.drop()
    give_back()
    weights = linear_parameters(receiver)
    other_ms = [ms / 10 for ms in others]
    return Ours(steps, other_ms, passes, tokens, weights, bridge, peak_gb, copied_s, stored_s)


def time_storing(trainer: Trainer) -> tuple[float, float]:
    """The end of an epoch: seconds until its weights are copied, and until they are stored."""
    copied_s, stored_s = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(3):
            began = time.perf_counter()
            weights = copied(trainer.module.state_dict())
            copied_s.append(time.perf_counter() - began)
            save_weights(Path(folder) / "weights.safetensors", weights)
            stored_s.append(time.perf_counter() - began)
    return statistics.median(copied_s), statistics.median(stored_s)


def say_training(scale: Size, plain_ms: float, ours: Ours, rates: Rates, say: Say) -> None:
    """The tables of steps and of the receiver's passes."""
    say("| a training step | ms a seed | against plain | floor, ms | over floor |")
    say("|---|---|---|---|---|")
    say(f"| plain, the shorter of before and after ours | {plain_ms:.1f} | | | |")
    fit_ms = fit_floor_ms(ours.bridge_weights, scale.bridge.latents, rates)
    for what, seeds, whole in zip(
        ("one seed", "a seed of five"), (1, SEEDS), ours.step_ms, strict=True
    ):
        passed = pass_floor_ms(ours.receiver_weights, seeds * BATCH * ours.tokens, rates)
        ms, floor = whole / seeds, fit_ms + passed / seeds
        say(f"| lwspec, {what} | {ms:.1f} | {plain_ms / ms:.1f} | {floor:.1f} | {ms / floor:.2f} |")
    say("\n| the receiver's pass alone | ms | floor, ms | of the measured roof |")
    say("|---|---|---|---|")
    for seeds, ms in zip((1, SEEDS), ours.pass_ms, strict=True):
        floor = pass_floor_ms(ours.receiver_weights, seeds * BATCH * ours.tokens, rates)
        shape = f"{seeds * BATCH} rows of {ours.tokens} tokens"
        say(f"| {shape} | {ms:.1f} | {floor:.1f} | {floor / ms:.0%} |")
    say(f"\nPeak memory of ours {ours.peak_gb:.1f} GB.\n")
    say("| the end of an epoch, a seed | s |")
    say("|---|---|")
    say(f"| weights copied, and training goes on | {ours.copied_s:.2f} |")
    say(f"| weights stored and hashed, behind it | {ours.stored_s:.2f} |\n")
    say("| one seed, priced from M = 8, batch 16 | predicted, ms | measured, ms | |")
    say("|---|---|---|---|")
    learnt = ours.step_ms[0] / modelled_ms(scale.bridge.latents, BATCH, ours, rates)
    for (latents, batch), ms in zip(OTHERS, ours.other_ms, strict=True):
        predicted = learnt * modelled_ms(latents, batch, ours, rates)
        name = f"M = {latents}, batch {batch}"
        say(f"| {name} | {predicted:.1f} | {ms:.1f} | {predicted / ms - 1:+.0%} |")
    say("")


def modelled_ms(latents: int, batch: int, ours: Ours, rates: Rates) -> float:
    """A step by the arithmetic that plans are priced with."""
    shape = Shape(4096, 32, ours.receiver_weights)
    task = {"query": TASK["query"], "answer": TASK["answer"]}
    settings = {
        "train": {"batch_size": batch},
        "samples": {},
        "arm_settings": {"layer": 16, "latents": latents, "width": 4096},
        "task": task,
    }
    names = {"sender": "sender", "receiver": "receiver"}
    job = Job(
        "fit", "fit", "bridge", settings, {"data": "data", "states": "states"}, ("epoch-001",), "",
        {}, names=names, gpus=1, compiled=True,
    )  # fmt: skip
    facts = Facts({"sender": shape, "receiver": shape}, {}, {"data": batch}, {}, "h100", {})
    machine = Machine(rates.bf16, rates.tf32, rates.memory, 0.0, float("inf"), 0.0)
    return 1000 * machine.seconds(training_work(job, ARM.declaration, facts))


def evaluation(
    scale: Size,
    rows: Sequence[Row],
    states: States,
    sender: Reader,
    plain_receiver: Reader,
    folder: Path,
    say: Say,
) -> None:
    """Test items a second, in turn with the plain way."""
    say(f"| a test item, {len(LABELS)} labels | ms | against plain |")
    say("|---|---|---|")
    items = Items(rows, range(len(rows)), states, None, None)
    plain = plain_item(scale, sender, plain_receiver, rows)
    ours = our_items(scale, plain_receiver, items)
    both = with_sender(scale, sender, rows, ours, folder / "again.safetensors")
    plain_ms, ours_ms, both_ms = median_ms([plain, ours, both], 3)
    say(f"| plain: batch 1, ten tokens written | {plain_ms:.1f} | |")
    for what, ms in (("sender's pass included", both_ms), ("stored states", ours_ms)):
        ms /= len(rows)
        say(f"| lwspec, labels scored in full, {what} | {ms:.3f} | {plain_ms / ms:.0f} |")


if __name__ == "__main__":
    main()
