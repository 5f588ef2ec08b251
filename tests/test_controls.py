"""Controls of the message: each changes exactly what its arithmetic says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lwspec.engine.arm import ArmDeclaration
from lwspec.engine.job import Job
from lwspec.engine.runs.runfolder import Runs
from lwspec.engine.spec.controls import CONTROLS, RANDOM_WEIGHTS
from lwspec.errors import DataError
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.arms import all_arms
from lwspec.kernels.attempt import Attempt, StopFlag
from lwspec.kernels.data.items import Items
from lwspec.kernels.data.rows import Row
from lwspec.kernels.measuring.controls import CHANGES, DONORS, Send, controlled
from lwspec.kernels.measuring.score import Scored, score
from lwspec.kernels.models.answer_logits import answer_logits
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.prompts import present_soft, present_text
from lwspec.kernels.setup import answers_of
from lwspec.kernels.training.loss import Counts, answer_loss
from lwspec.kernels.training.permuted import permuted_answers

LABELS = ("red", "blue", "cold")
TASK = {
    "query": "Colour:",
    "receiver_prompt": "Text: {context}\nColour:",
    "answer": " {label}",
    "labels": LABELS,
    "max_prompt_tokens": 40,
}
PRIVATE = ArmDeclaration("known", 1, "private", models=("receiver",), soft=True)


def make_items(count: int) -> Items:
    """Rows of three labels, the text of each its own; the last label has fewer rows."""
    labels = [(0, 1, 0, 1, 2)[n % 5] for n in range(count)]
    rows = [Row(n, f"text {n}", LABELS[label], label) for n, label in enumerate(labels)]
    return Items(rows, range(count), None, None, None)


def sending(messages: Sequence[Any]) -> Send:
    return lambda rows: ([messages[row] for row in rows], [7] * len(rows))


def soft(count: int) -> list[torch.Tensor]:
    return list(torch.randn(count, 2, 5, generator=torch.Generator().manual_seed(3)) + 1)


def test_every_control_of_the_message_is_defined_once() -> None:
    named = {name for name, control in CONTROLS.items() if control.message}
    assert named == {*DONORS, *CHANGES}
    assert not {*DONORS} & {*CHANGES}


def test_a_message_crosses_wherever_an_arm_declares_a_regime_and_a_receiver() -> None:
    """What plans go by: they know declarations alone."""
    for arm in all_arms().values():
        crosses = arm.declaration.regime != "reference" and bool(arm.declaration.models)
        assert crosses == arm.sends, arm.declaration.name


def test_donors_have_the_label_that_the_control_says() -> None:
    items, names = make_items(20), [f"of {n}" for n in range(20)]
    for control in DONORS:
        send = controlled(control, sending(names), items, 0)
        got = [int(text.removeprefix("of ")) for text in send(range(20))[0]]
        assert all(donor != row for row, donor in enumerate(got))
        same = [items.labels[donor] == items.labels[row] for row, donor in enumerate(got)]
        if control == "other_item":
            assert sorted(got) == list(range(20)), "each message is handed over once"
        else:
            assert set(same) == {control == "same_label"}
        if control == "same_label":
            assert sorted(got) == list(range(20))
        assert send([4, 9])[0] == [names[got[4]], names[got[9]]], "whatever rows are batched"
        other = controlled(control, sending(names), items, 1)
        assert other(range(20))[0] != send(range(20))[0], "the sample seed decides"


def test_rows_without_a_donor_are_refused_with_the_label() -> None:
    lone = make_items(5)  # one row of the third label
    with pytest.raises(DataError, match="'cold'.*no other item"):
        controlled("same_label", sending(soft(5)), lone, 0)
    alike = replace(lone, rows=[row for row in lone.rows if row.label == 0])
    with pytest.raises(DataError, match="all 2 test items have the label 'red'"):
        controlled("other_label", sending(soft(2)), alike, 0)
    for control in ("other_item", "gaussian"):
        with pytest.raises(DataError, match="one test item"):
            controlled(control, sending(soft(1)), make_items(1), 0)


def test_zero_and_no_transfer() -> None:
    messages = soft(3)
    made, sizes = controlled("zero", sending(messages), make_items(3), 0)([2, 0])
    assert all(torch.equal(one, torch.zeros(2, 5)) for one in made)
    assert sizes == [7, 7]
    made, sizes = controlled("no_transfer", sending(messages), make_items(3), 0)([2, 0])
    assert [one.shape for one in made] == [(0, 5)] * 2
    assert sizes == [0, 0]
    for control in ("zero", "no_transfer"):
        assert controlled(control, sending(["a", "b"]), make_items(2), 0)([1]) == ([""], [0])


def test_the_mean_message_is_that_of_the_split() -> None:
    messages = soft(70)  # more than are made together
    made, _ = controlled("mean", sending(messages), make_items(70), 0)([5, 60])
    mean = sum(message.double() for message in messages) / 70
    for one in made:
        torch.testing.assert_close(one, mean.float())


def test_a_rotation_keeps_lengths_and_angles_and_is_the_same_for_all() -> None:
    messages = soft(4)
    turned, _ = controlled("rotation", sending(messages), make_items(4), 0)(range(4))
    before, after = torch.cat(messages), torch.cat(list(turned))
    torch.testing.assert_close(after @ after.T, before @ before.T, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(after, before, atol=0.1)
    again, _ = controlled("rotation", sending(messages), make_items(4), 0)([3])
    assert torch.equal(again[0], turned[3])


def test_a_gaussian_draw_is_the_formula_in_loops() -> None:
    messages, seed, row = soft(6), 2, 4
    send = controlled("gaussian", sending(messages), make_items(6), seed)
    normal = torch.randn(2, 6, generator=torch.Generator().manual_seed(seed * 1_000_003 + row))
    wanted = torch.zeros(2, 5)
    for token in range(2):
        for place in range(5):
            values = [float(message[token, place]) for message in messages]
            mean = sum(values) / 6
            drawn = sum(float(normal[token, n]) * (values[n] - mean) for n in range(6))
            wanted[token, place] = mean + drawn / 5**0.5
    torch.testing.assert_close(send([row])[0][0], wanted)
    torch.testing.assert_close(send([1, row, 2])[0][1], wanted)


def test_gaussian_draws_have_the_mean_and_the_covariance_of_each_token() -> None:
    base, count = soft(40), 4000
    messages = [base[n % 40] for n in range(count)]
    send = controlled("gaussian", sending(messages), make_items(count), 0)
    drawn, given = torch.stack(list(send(range(count))[0])), torch.stack(messages)
    torch.testing.assert_close(drawn.mean(0), given.mean(0), atol=0.1, rtol=0)
    for token in range(2):
        found, wanted = drawn[:, token].T.cov(), given[:, token].T.cov()
        torch.testing.assert_close(found, wanted, atol=0.15, rtol=0)
    one, other = drawn.transpose(0, 1)
    across = torch.stack([one[:, 0], other[:, 0]]).corrcoef()[0, 1]
    assert abs(float(across)) < 0.06, "tokens are drawn apart"


def test_permuted_answers_keep_texts_and_counts() -> None:
    items = make_items(50)
    accepted = [replace(row, accepted=(row.target,)) for row in items.rows]
    made = permuted_answers(replace(items, rows=accepted), 1)
    assert [row.context for row in made.rows] == [row.context for row in items.rows]
    assert sorted(made.labels) == sorted(items.labels)
    assert made.labels != items.labels
    assert made.labels != permuted_answers(items, 2).labels
    assert made.labels == permuted_answers(items, 1).labels
    for row in made.rows:
        assert row.target == LABELS[row.label]
        assert row.accepted == (row.target,)


@pytest.fixture(scope="module")
def reader(world: Path) -> Reader:
    return Reader.load(world / "models/mistral", "float32", None, torch.device("cpu"))


@pytest.fixture(scope="module")
def code(reader: Reader) -> torch.Tensor:
    """Soft tokens [labels, 2, width] after which the receiver says the label of each."""
    setup = Setup(None, TASK, reader, None)
    answers = answers_of(setup)
    said = [[*ids, reader.eos] for ids in answers.label_ids()]
    generator = torch.Generator().manual_seed(0)
    book = torch.randn(3, 2, reader.width, generator=generator, requires_grad=True)
    optimizer = torch.optim.Adam([book], lr=0.1)
    query = reader.encode(TASK["query"])
    for _ in range(100):
        optimizer.zero_grad()
        logits, tokens = answer_logits(reader, [[query, message] for message in book], said)
        answer_loss(logits, tokens, Counts(sum(map(len, said)), 3)).backward()
        optimizer.step()
    return book.detach()


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    runs = Runs(tmp_path)
    job = Job("evaluate-x", "evaluate", "known", {}, {}, ("result",), "known", {})
    return Attempt(job, runs.folder(job.id).begin_attempt(), runs, StopFlag(), 600.0)


def knowing(code: torch.Tensor, items: Items) -> Arm:
    """An arm whose message is known: the code of the text's label."""
    label = {row.context: row.label for row in items.rows}

    def message(setup: Setup, batch: Batch) -> list[torch.Tensor]:
        return [code[label[text]] for text in batch.contexts]

    return Arm(PRIVATE, message=message, present=present_soft)


def scored(
    attempt: Attempt, arm: Arm, reader: Reader, items: Items, control: str | None, rows: int = 16
) -> Scored:
    setup = Setup(None, TASK, reader, None)
    precision = "float32" if arm.declaration.soft else "text"
    return score(attempt, arm, setup, items, batch_size=rows, precision=precision, control=control)


def test_the_receiver_follows_the_message_that_a_control_hands_over(
    attempt: Attempt, reader: Reader, code: torch.Tensor
) -> None:
    items = make_items(20)
    arm = knowing(code, items)
    made = {name: scored(attempt, arm, reader, items, name) for name in (None, *DONORS)}
    assert made[None].metrics["accuracy"] == 1.0
    assert made["same_label"].metrics["accuracy"] == 1.0
    assert made["other_label"].metrics["accuracy"] == 0.0
    sent = controlled("other_label", sending(items.labels), items, 0)(range(20))[0]
    assert list(made["other_label"].columns["predicted"]) == sent
    sent = controlled("other_item", sending(items.labels), items, 0)(range(20))[0]
    assert list(made["other_item"].columns["predicted"]) == sent
    again = scored(attempt, arm, reader, items, "other_label", rows=3)
    assert again.columns["predicted"] == made["other_label"].columns["predicted"]


def test_no_transfer_is_the_receiver_without_a_message(
    attempt: Attempt, reader: Reader, code: torch.Tensor
) -> None:
    items = make_items(10)
    arm = knowing(code, items)
    without = scored(attempt, arm, reader, items, "no_transfer")
    alone = scored(attempt, all_arms()["no_message"], reader, items, None)
    torch.testing.assert_close(
        torch.tensor(without.columns["label_logprobs"]),
        torch.tensor(alone.columns["label_logprobs"]),
    )
    assert without.metrics["message_bytes"] == 0
    zero = scored(attempt, arm, reader, items, "zero")
    noughts = knowing(torch.zeros_like(code), items)
    behind = scored(attempt, noughts, reader, items, None)
    assert zero.columns["label_logprobs"] == behind.columns["label_logprobs"]
    assert zero.metrics["message_bytes"] == 2 * reader.width * 4


@pytest.mark.parametrize(
    ("regime", "alone"), [("private", "no_message"), ("shared", "receiver_direct")]
)
def test_what_is_no_soft_token_is_left_out_of_a_prompt_as_a_whole(
    attempt: Attempt, reader: Reader, regime: Any, alone: str
) -> None:
    """Keys and values, or states to graft, are no message that could be cut to no tokens."""
    items = make_items(6)

    def message(setup: Setup, batch: Batch) -> list[torch.Tensor]:
        return [torch.randn(2, 2, 3, 4) for _ in batch.contexts]

    declaration = replace(PRIVATE, regime=regime, vectors=lambda settings, shapes, tokens: (12, 4))
    arm = Arm(declaration, message=message, present=present_soft)
    made = scored(attempt, arm, reader, items, "no_transfer").columns["label_logprobs"]
    assert made == scored(attempt, all_arms()[alone], reader, items, None).columns["label_logprobs"]


def test_messages_of_several_sizes_have_no_mean() -> None:
    messages = [torch.randn(1 + n, 5) for n in range(3)]
    for control in ("mean", "gaussian"):
        send = controlled(control, sending(messages), make_items(3), 0)
        with pytest.raises(DataError, match=r"\[1, 5\] and \[2, 5\].*no mean"):
            send([0])


def test_answers_follow_the_query_whatever_the_live_sender_reads(reader: Reader) -> None:
    task = {**TASK, "sender_prompt": "{context}"}
    del task["receiver_prompt"]
    assert answers_of(Setup(None, task, reader, None, sender=reader)).before == TASK["query"]


BEHIND = {
    "receiver_prompt": (
        "c2c", "cross_lora", "few_shot", "llmlingua", "lora", "perplexity_pruning",
        "receiver_direct", "text_relay", "truncated",
    ),
    "sender_prompt": ("sender_direct",),
}  # fmt: skip
"""What answers follow of each arm; of all others the query."""


@pytest.mark.parametrize("name", sorted({*all_arms()} - {"linear_probe", "prompt_tuning"}))
def test_answers_are_said_behind_what_each_arm_presents(name: str, reader: Reader) -> None:
    said = next((prompt for prompt, arms in BEHIND.items() if name in arms), "query")
    assert answers_of(asked(name, None, reader)).before.strip() == said


@pytest.mark.parametrize("text", [True, False])
def test_answers_of_prompt_tuning_follow_the_prompt_that_it_reads(
    text: bool, reader: Reader
) -> None:
    settings = all_arms()["prompt_tuning"].declaration.settings.model_validate({"text": text})
    said = answers_of(asked("prompt_tuning", settings, reader)).before.strip()
    assert said == ("receiver_prompt" if text else "query")


def asked(name: str, settings: Any, reader: Reader) -> Setup:
    """A setup with what the arm reads of a task whose prompts say their names."""
    prompts = {
        "receiver_prompt": "{context} receiver_prompt",
        "sender_prompt": "{context} sender_prompt",
        "query": "query",
        "answer": " {label}",
    }
    reads = all_arms()[name].declaration.reads
    return Setup(settings, {k: v for k, v in prompts.items() if k in reads}, reader, None)


def test_a_text_without_transfer_is_the_empty_text(attempt: Attempt, reader: Reader) -> None:
    items = make_items(6)
    declaration = replace(PRIVATE, soft=False)
    telling = Arm(declaration, message=lambda setup, batch: batch.contexts, present=present_text)
    silent = replace(telling, message=lambda setup, batch: [""] * len(batch.contexts))
    wanted = scored(attempt, silent, reader, items, None).columns["label_logprobs"]
    for control in ("zero", "no_transfer"):
        assert scored(attempt, telling, reader, items, control).columns["label_logprobs"] == wanted
    assert scored(attempt, telling, reader, items, None).columns["label_logprobs"] != wanted


def test_a_random_model_is_its_seeds_alone_and_has_the_real_ones_shape(world: Path) -> None:
    def load(seed: int | None) -> dict[str, torch.Tensor]:
        place, device = world / "models/llama", torch.device("cpu")
        before = torch.random.get_rng_state()
        made = Reader.load(place, "float32", None, device, random_weights=seed)
        assert torch.equal(torch.random.get_rng_state(), before)
        return dict(made.model.state_dict())

    real, drawn, again, other = map(load, (None, RANDOM_WEIGHTS, RANDOM_WEIGHTS, 1))
    assert {n: w.shape for n, w in real.items()} == {n: w.shape for n, w in drawn.items()}
    name = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(drawn[name], again[name])
    assert not torch.allclose(drawn[name], other[name])
    assert not torch.allclose(drawn[name], real[name])
