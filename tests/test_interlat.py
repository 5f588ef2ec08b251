"""Interlat's adapter and its separation loss, against sums written out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_two_hundred_steps import NoAttempt
from torch import Tensor

from lwspec.errors import ModelError
from lwspec.kernels.arm import Batch, Setup
from lwspec.kernels.arms import all_arms
from lwspec.kernels.data.items import Items
from lwspec.kernels.data.rows import Row
from lwspec.kernels.methods.interlat import Adapter
from lwspec.kernels.models.answer_logits import answer_logits
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.training.loss import Counts, partners, separation
from lwspec.kernels.training.receiver_pass import Ask, gradients, losses
from lwspec.kernels.training.tasks import TrainingTask, in_common
from lwspec.kernels.training.trainer import Trainer

INTERLAT = all_arms()["interlat"]
PLAIN = {
    "supervised_tokens": None,
    "first_token_weight": 0.0,
    "distillation": 0.0,
    "distillation_temperature": 2.0,
}


@pytest.fixture
def reader(world: Path) -> Reader:
    return Reader.load(world / "models/mistral", "float32", None, torch.device("cpu"))


def setup_of(reader: Reader, **given: Any) -> Setup:
    parsed = INTERLAT.declaration.settings.model_validate({"layer": 1, "tokens": 3, **given})
    return Setup(parsed, {}, reader, 32)


def normed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt() * weight + bias


def test_the_adapter_is_attention_between_norms_written_out() -> None:
    torch.manual_seed(0)
    module, states = Adapter(16, 6, heads=8, rms=0.3).double(), torch.randn(5, 16).double()
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    w = {name: weight.detach() for name, weight in module.named_parameters()}
    x = [normed(row, w["before.weight"], w["before.bias"]) for row in states]
    qkv = [w["attention.in_proj_weight"] @ row + w["attention.in_proj_bias"] for row in x]
    found = module(states[None])[0].detach()
    for i in range(5):
        heads = []
        for h in range(8):
            of = slice(2 * h, 2 * h + 2)
            q, ks, vs = qkv[i][:16][of], [r[16:32][of] for r in qkv], [r[32:][of] for r in qkv]
            scores = torch.stack([(q @ k) / 2**0.5 for k in ks]).exp()
            heads.append(sum(s / scores.sum() * v for s, v in zip(scores, vs, strict=True)))
        read = w["attention.out_proj.weight"] @ torch.cat(heads) + w["attention.out_proj.bias"]
        inner = normed(x[i] + read, w["after.weight"], w["after.bias"])
        made = w["scale"] * (w["leave.weight"] @ inner + w["leave.bias"])
        torch.testing.assert_close(found[i], made)


def test_separation_is_the_jensen_shannon_divergence_written_out() -> None:
    torch.manual_seed(0)
    own, other = torch.randn(2, 2, 4), torch.randn(2, 2, 4)
    tokens = torch.tensor([[-100, 1], [2, 3]])
    total = 0.0
    for row, place in ((0, 1), (1, 0), (1, 1)):
        p, q = own[row, place].softmax(0), other[row, place].softmax(0)
        m = (p + q) / 2
        for each in (p, q):
            total += 0.5 * sum(float(a * (a / b).log()) for a, b in zip(each, m, strict=True))
    found = separation(own, other, tokens, Counts(3, 2))
    assert float(found) == pytest.approx(total / 3, abs=1e-6)
    assert float(separation(own, own, tokens, Counts(3, 2))) == pytest.approx(0, abs=1e-6)
    far = torch.tensor([[[50.0, 0.0]]]), torch.tensor([[[0.0, 50.0]]])
    most = separation(*far, torch.tensor([[0]]), Counts(1, 1))
    assert float(most) == pytest.approx(torch.tensor(2.0).log().item(), abs=1e-5)


def test_a_partner_has_another_target_where_there_is_one() -> None:
    assert partners(["a", "a", "b", "c"]) == [2, 2, 3, 0]
    assert partners(["a", "a"]) == [0, 1]
    assert partners(["a"]) == [0]


@pytest.mark.parametrize("at_once", [4, 3])
def test_a_step_learns_from_answers_less_what_sets_them_apart(reader: Reader, at_once: int) -> None:
    torch.manual_seed(0)
    soft, query = torch.randn(4, 2, reader.width), reader.encode("Colour:")
    answers = [[5, 1], [6, 7, 1], [8, 1], [9, 1]]
    others = partners(["x", "x", "y", "z"])

    def prompts(rows: Any, of: Any) -> list[Any]:
        return [[query, rows[n]] for n in of]

    leaf = soft.clone().requires_grad_()
    rows, counts = leaf.unbind(), Counts(9, 4)
    ask = Ask(reader, prompts(rows, range(4)), answers, counts, PLAIN, None, [leaf], at_once,
              prompts(rows, others), 0.7)  # fmt: skip
    gradients([ask])
    plain = soft.clone().requires_grad_()
    own, tokens = answer_logits(reader, prompts(plain, range(4)), answers)
    wrong, _ = answer_logits(reader, prompts(plain, others), answers)
    entropy = torch.nn.functional.cross_entropy(own.flatten(0, 1), tokens.flatten())
    (entropy - 0.7 * separation(own, wrong, tokens, counts)).backward()
    torch.testing.assert_close(leaf.grad, plain.grad, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        ((whole, alone),) = losses([ask])
    assert float(alone) == pytest.approx(float(entropy.detach()), abs=1e-5)
    assert float(whole) < float(alone)


def test_a_trainers_step_asks_with_the_messages_of_rows_with_other_targets(reader: Reader) -> None:
    """Within each task, though a batch has rows of two."""
    tasks = [{"query": query, "answer": " {label}"} for query in ("Colour:", "Warmth of it:")]
    setup = setup_of(reader)
    setup = replace(setup, module=INTERLAT.build(setup).train(), task=in_common(tasks))
    learnt = []
    for task in tasks:
        rows = [Row(n, f"text {n}", target, n) for n, target in enumerate("aabc")]
        states = Drawn([torch.randn(3 + n, 32) for n in range(4)])
        items = Items(rows, range(4), states, None, None)
        learnt.append(TrainingTask(task["query"], replace(setup, task=task), items, items))
    attempt: Any = NoAttempt(1)
    ask = next(Trainer(attempt, INTERLAT, setup, setup.module, learnt).step([0, 1, 2, 3, 4, 6], 0))
    assert ask.separation == setup.settings.separation > 0
    assert ask.mismatched is not None
    wanted = [2, 2, 3, 0, 5, 4]
    for own, wrong, other in zip(ask.prompts, ask.mismatched, wanted, strict=True):
        assert wrong[:-1] == own[:-1]
        assert torch.equal(wrong[-1], ask.prompts[other][-1])
        assert not torch.equal(wrong[-1], own[-1])


class Drawn:
    """In the place of stored states."""

    def __init__(self, made: Sequence[Tensor]) -> None:
        self.made, self.width = made, made[0].shape[1]

    def of(self, rows: Sequence[int]) -> list[Tensor]:
        return [self.made[row] for row in rows]


def test_its_parameters_are_those_declared_and_its_message_is_a_rows_own(reader: Reader) -> None:
    setup = setup_of(reader)
    module = INTERLAT.build(setup)
    count = sum(parameter.numel() for parameter in module.parameters())
    assert INTERLAT.declaration.parameters(setup.settings, 32, reader.width) == count
    states = [torch.randn(length, 32) for length in (5, 9)]
    together = module(*INTERLAT.inputs(setup, Batch(["", ""], states)))
    alone = module(*INTERLAT.inputs(setup, Batch([""], states[1:])))
    assert together.shape == (2, 3, reader.width)
    torch.testing.assert_close(together[1], alone[0])


def test_heads_that_do_not_divide_the_width_are_refused(reader: Reader) -> None:
    with pytest.raises(ModelError, match="no multiple of 5 heads"):
        INTERLAT.build(setup_of(reader, heads=5))
