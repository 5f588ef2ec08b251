"""Rows of several tasks in one batch: their order, prompts, answers, losses and judgement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from test_two_hundred_steps import SETTINGS, TASK, NoAttempt

from lwspec.kernels.arm import Batch, Setup
from lwspec.kernels.arms.bridge import ARM
from lwspec.kernels.data.items import Items
from lwspec.kernels.data.rows import Row
from lwspec.kernels.measuring.score import Scored
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.prompts import sender_ids
from lwspec.kernels.training.receiver_pass import answer
from lwspec.kernels.training.tasks import TrainingTask, by_task, in_common, validated
from lwspec.kernels.training.trainer import Trainer, epoch_order


def test_every_row_of_every_task_is_learnt_once_an_epoch() -> None:
    sizes = [5, 1, 7]
    for epoch in (1, 2):
        order = epoch_order(sum(sizes), 3, epoch)
        batches = [by_task(sizes, order[start : start + 4]) for start in range(0, sum(sizes), 4)]
        learnt = [(task, row) for batch in batches for task, rows in batch for row in rows]
        assert sorted(learnt) == [(task, row) for task, n in enumerate(sizes) for row in range(n)]
        assert any(len(batch) > 1 for batch in batches)
    assert epoch_order(13, 3, 1) != epoch_order(13, 3, 2)


def test_an_epoch_is_judged_by_the_mean_over_tasks() -> None:
    scores = {
        "one": Scored({"accuracy": 0.5, "macro_f1": 0.2}, {}),
        "two": Scored({"accuracy": 1.0}, {}),
    }
    assert validated(scores) == {
        "validation_accuracy": 0.75,
        "validation_accuracy:one": 0.5,
        "validation_macro_f1:one": 0.2,
        "validation_accuracy:two": 1.0,
    }


@pytest.fixture
def trainer(world: Path) -> Trainer:
    """A fit over two tasks of other queries and labels, before its first step."""
    sender, receiver = (
        Reader.load(world / "models" / name, "float32", None, torch.device("cpu"))
        for name in ("llama", "mistral")
    )
    asked = [TASK, {"query": "Warmth of it:", "answer": " {label}", "labels": ("warm", "cold")}]
    settings = SETTINGS.model_copy(update={"diversity": 0.0})
    common = Setup(settings, in_common(asked), receiver, sender.width)
    torch.manual_seed(0)
    assert ARM.build is not None
    module = ARM.build(common).train()
    common, tasks = replace(common, module=module), []
    for task in asked:
        labels = task["labels"]
        rows = [Row(n, f"text {n}", labels[n % 2], n % 2) for n in range(4)]
        states = cast("Any", States(sender, rows))
        items = Items(rows, range(4), states, None, None)
        tasks.append(TrainingTask(labels[0], replace(common, task=task), items, items))
    return Trainer(cast("Any", NoAttempt(1)), ARM, common, module, tasks)


class States:
    """Some states a row, as many as its text has tokens."""

    def __init__(self, sender: Reader, rows: Sequence[Row]) -> None:
        self.width = sender.width
        self.made = [torch.randn(3 + row.item, sender.width) for row in rows]

    def of(self, rows: Sequence[int]) -> list[torch.Tensor]:
        return [self.made[row] for row in rows]


def test_rows_of_a_batch_are_asked_and_answered_as_their_own_task_says(trainer: Trainer) -> None:
    ask = next(trainer.step([6, 1, 4, 0], 0))
    reader = ask.reader
    asked = [reader.tokenizer.decode(prompt[1]) for prompt in ask.prompts]
    said = [reader.tokenizer.decode(list(tokens)) for tokens in ask.answers]
    assert ["Warmth" in text for text in asked] == [False, False, True, True]
    assert [text.split("</s>")[0].strip() for text in said] == ["blue", "red", "warm", "warm"]


def test_a_batch_of_several_tasks_has_the_loss_and_gradients_of_its_rows_alone(
    trainer: Trainer,
) -> None:
    def learnt(indices: Sequence[int]) -> tuple[float, list[torch.Tensor], int]:
        """The loss, the messages' gradients by row, and how many tokens are learnt."""
        ask = next(trainer.step(indices, 0))
        ((told,), _) = answer([ask], together=True)
        assert not isinstance(told, Exception)
        (messages,) = [leaf for leaf in trainer.learner.leaves() if leaf.dim() == 3]
        assert messages.grad is not None
        for leaf in trainer.module.parameters():
            leaf.grad = None
        return float(told.loss), list(messages.grad), sum(map(len, ask.answers))

    loss, gradients, tokens = learnt([6, 1, 4])
    alone = [learnt([index]) for index in (1, 6, 4)]
    assert loss == pytest.approx(sum(each[0] * each[2] for each in alone) / tokens, rel=1e-4)
    for gradient, (_, (own,), its) in zip(gradients, alone, strict=True):
        torch.testing.assert_close(gradient, own * its / tokens, atol=1e-6, rtol=1e-3)


def test_what_is_asked_of_several_tasks_at_once_is_what_they_have_in_common(
    trainer: Trainer,
) -> None:
    assert trainer.setup.task == {"answer": " {label}"}


def test_a_live_sender_reads_each_row_in_its_own_tasks_prompt(trainer: Trainer) -> None:
    reader = trainer.setup.reader
    setup = replace(trainer.setup, sender=reader)
    prompts = ["Text: {context}", "Note: {context} {place}"]
    tasks = [{"sender_prompt": prompt, "max_prompt_tokens": 40} for prompt in prompts]
    batch = Batch(["red", "blue"], fields=[{}, {"place": "river"}], tasks=tasks)
    assert reader is not None
    wanted = [reader.encode("Text: red"), reader.encode("Note: blue river")]
    assert sender_ids(setup, batch) == wanted
