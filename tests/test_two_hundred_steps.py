"""Two hundred steps of training: the ways that make them cheap end where the plain way ends.

On a GPU too, with `make test-gpu`. The frozen models are in float64: in float32 the last bit of a
sum, which differs between these ways, grows to a per cent of the loss in so many steps of AdamW.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from lwspec.kernels.arm import Setup
from lwspec.kernels.arms.bridge import ARM, Settings
from lwspec.kernels.data.items import Items
from lwspec.kernels.data.rows import Row
from lwspec.kernels.data.stored import States, StoredBlock, write_states
from lwspec.kernels.models.answering import answer as ask_labels
from lwspec.kernels.models.hidden import hidden_states
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.setup import answers_of, present_rows
from lwspec.kernels.training.receiver_pass import answer
from lwspec.kernels.training.tasks import TrainingTask
from lwspec.kernels.training.trainer import Trainer, epoch_order

STEPS, ROWS, BATCH = 200, 40, 8
LABELS = ("red", "blue", "green stone")
SETTINGS = Settings(layer=1, latents=4, width=32, heads=2)
TASK = {"query": "Colour:", "answer": " {label}", "labels": LABELS}
TRAIN = {
    "learning_rate": 1e-3, "weight_decay": 0.01, "batch_size": BATCH, "warmup_steps": 10,
    "schedule": "constant", "clip_norm": 1.0, "supervised_tokens": None, "first_token_weight": 0.0,
}  # fmt: skip
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


class NoAttempt:
    """In the place of an attempt: nothing is recorded."""

    def __init__(self, seed: int) -> None:
        settings = {"train": TRAIN, "seed": seed}
        self.job = type("Job", (), {"settings": settings, "outputs": ("epoch-001",)})


class Recomputed:
    """The sender's states, made anew each time that they are asked for."""

    def __init__(self, sender: Reader, rows: Sequence[Row]) -> None:
        self.sender, self.rows, self.width = sender, rows, sender.width

    def of(self, rows: Sequence[int]) -> list[torch.Tensor]:
        prompts = [[self.sender.encode(self.rows[row].context)] for row in rows]
        return [states.cpu() for states in hidden_states(self.sender, prompts, 1)]


@dataclass(frozen=True)
class Trained:
    losses: list[float]
    predicted: list[int]


Load = Callable[..., Reader]


@pytest.fixture(params=DEVICES)
def load(request: pytest.FixtureRequest, world: Path) -> Iterator[Load]:
    """A model of the world on the device that is tested."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.compiler.reset()

    def load(family: str, *, compiled: bool = False) -> Reader:
        device = torch.device(request.param)
        return Reader.load(world / "models" / family, "float64", None, device, compiled=compiled)

    yield load
    torch.use_deterministic_algorithms(deterministic)
    torch.compiler.reset()


def make_rows() -> list[Row]:
    texts = ["a red cloud", "cold blue river slow", "the green stone of the dark", "quick red"]
    return [Row(n, f"{texts[n % 4]} {n}", LABELS[n % 3], n % 3) for n in range(ROWS)]


def stored(sender: Reader, folder: Path) -> States:
    made = Recomputed(sender, make_rows()).of(range(ROWS))
    write_states(folder / "states.safetensors", made, sender.width)
    return States([StoredBlock(folder / "states.safetensors")])


def make_trainer(receiver: Reader, states: Any, seed: int) -> Trainer:
    rows = make_rows()
    items = Items(rows, range(ROWS), states, None, None)
    setup = Setup(SETTINGS, TASK, receiver, states.width)
    torch.manual_seed(seed)
    setup = Setup(SETTINGS, TASK, receiver, states.width, module=ARM.build(setup).train())
    attempt = cast("Any", NoAttempt(seed))
    assert setup.module is not None
    task = TrainingTask("colour", setup, items, items)
    return Trainer(attempt, ARM, setup, setup.module, [task])


def train(trainers: Sequence[Trainer]) -> list[Trained]:
    """All of them side by side; each one's losses, and its predictions in the end."""
    losses: list[list[torch.Tensor]] = [[] for _ in trainers]
    for step in range(STEPS):
        epoch, place = divmod(step * BATCH, ROWS)
        orders = [epoch_order(ROWS, trainer.seed, epoch) for trainer in trainers]
        going = [
            trainer.step(order[place : place + BATCH], step)
            for trainer, order in zip(trainers, orders, strict=True)
        ]
        told, _ = answer([next(each) for each in going], together=True)
        for number, (each, said) in enumerate(zip(going, told, strict=True)):
            if isinstance(said, Exception):
                raise said
            with pytest.raises(StopIteration) as ended:
                each.send(said)
            losses[number].append(ended.value.value.clone())
    made = zip(losses, map(predict, trainers), strict=True)
    return [Trained(torch.stack(some).tolist(), said) for some, said in made]


@torch.no_grad()
def predict(trainer: Trainer) -> list[int]:
    setup, items = trainer.setup, trainer.tasks[0].train
    assert setup.reader is not None
    messages = ARM.messages(setup, items.batch(range(ROWS)))
    prompts = present_rows(ARM, setup, messages, items.rows)
    said = ask_labels(setup.reader, prompts, answers_of(setup).label_ids())
    return said.label_logprobs.argmax(1).tolist()


def assert_alike(one: Trained, other: Trained) -> None:
    assert min(one.losses) < 0.8 * one.losses[0], "nothing was learnt"
    assert one.losses == pytest.approx(other.losses, rel=1e-3)
    assert one.predicted == other.predicted


def test_side_by_side_and_alone(load: Load, tmp_path: Path) -> None:
    states, receiver = stored(load("llama"), tmp_path), load("mistral")
    make = partial(make_trainer, receiver, states)
    together = train([make(1), make(2), make(3)])
    (alone,) = train([make(2)])
    assert_alike(together[1], alone)
    assert together[0].losses != pytest.approx(alone.losses, rel=2e-3, abs=2e-4)


def test_stored_states_and_states_made_anew(load: Load, tmp_path: Path) -> None:
    sender, receiver = load("llama"), load("mistral")
    (kept,) = train([make_trainer(receiver, stored(sender, tmp_path), 1)])
    (anew,) = train([make_trainer(receiver, Recomputed(sender, make_rows()), 1)])
    assert_alike(kept, anew)


def test_compiled_and_plain(load: Load, tmp_path: Path) -> None:
    states = stored(load("llama"), tmp_path)
    (compiled,) = train([make_trainer(load("mistral", compiled=True), states, 1)])
    (plain,) = train([make_trainer(load("mistral"), states, 1)])
    assert_alike(compiled, plain)
