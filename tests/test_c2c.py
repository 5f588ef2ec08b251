"""Cache-to-Cache on pairs of tiny models, and from a spec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Project
from pyarrow.parquet import read_table
from safetensors.torch import load_file
from torch import Tensor

from lwspec.engine.runs.jsonfile import read_json
from lwspec.engine.shapes import shape_of
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.arms import all_arms
from lwspec.kernels.arms.c2c import Settings
from lwspec.kernels.data.rows import Row, read_rows
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.measuring import wire
from lwspec.kernels.message import Cached
from lwspec.kernels.methods.cache_fusion import CacheFusion
from lwspec.kernels.models.answer_logits import answer_logits
from lwspec.kernels.models.answering import answer
from lwspec.kernels.models.keys_values import keys_values
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.models.realign import realign
from lwspec.kernels.training.checkpoint import (
    Progress,
    load_checkpoint,
    optimizer_tensors,
    save_checkpoint,
)
from lwspec.kernels.training.learner import Learner
from lwspec.kernels.training.loss import Counts
from lwspec.kernels.training.receiver_pass import Ask, Told, gradients
from lwspec.kernels.training.receiver_pass import answer as receive

TASK = {
    "sender_prompt": "Text: {context}\n",
    "receiver_prompt": "Text: {context}\nColour:",
    "query": "Colour:",
    "answer": " {label}",
    "max_prompt_tokens": 40,
}
TRAIN = {
    "learning_rate": 1e-2,
    "weight_decay": 0.01,
    "clip_norm": 1.0,
    "supervised_tokens": None,
    "first_token_weight": 0.0,
    "distillation": 0.0,
    "distillation_temperature": 2.0,
}
CONTEXTS = ["red blue", "green stone river", "dark", "warm cloud slow quick"]
ROWS = [Row(place, context, "", 0) for place, context in enumerate(CONTEXTS)]
ARMS = ["c2c", "c2c_private"]


def load(world: Path, name: str) -> Reader:
    return Reader.load(world / "models" / name, "float32", None, torch.device("cpu"))


@pytest.fixture(params=[("llama", "mistral"), ("qwen", "llama")], ids="-".join)
def pair(request: pytest.FixtureRequest, world: Path) -> tuple[Reader, Reader]:
    """A sharer with more layers than its receiver, and one with as many and no first token."""
    sender, reader = (load(world, name) for name in request.param)
    return sender, reader


def setup_of(arm: Arm, pair: tuple[Reader, Reader], **changes: Any) -> Setup:
    settings = Settings(**{"anneal_steps": 20, "width": 16, "dropout": 0.1, **changes})
    setup = Setup(settings, TASK, pair[1], pair[0].width, sender=pair[0])
    torch.manual_seed(0)
    return replace(setup, module=arm.build(setup))


def prompts_of(arm: Arm, setup: Setup, contexts: Sequence[str] = CONTEXTS) -> list[Any]:
    messages = arm.messages(setup, Batch(contexts))
    return arm.prompts(setup, messages, [Seen(context, {}) for context in contexts])


def scores(reader: Reader, prompts: Sequence[Any]) -> Tensor:
    return answer(reader, prompts, [[5], [6, 7]]).label_logprobs


def open_gates(setup: Setup) -> None:
    with torch.no_grad():
        for name, parameter in setup.module.named_parameters():
            if name.endswith("gate_logit"):
                parameter.fill_(1.0)


def test_real_tokenizers_pair_each_token_with_its_longest_piece(world: Path) -> None:
    """Every piece of which the sharer could have read is looked at, by an explicit loop."""
    reader, sender = load(world, "llama").tokenizer, load(world, "mistral").tokenizer
    assert reader.get_vocab() != sender.get_vocab()
    ids = reader.encode("Text: green stonecold rivers\nColour: été", add_special_tokens=False)
    found = realign(ids, reader, sender)
    assert len(found) == len(ids)
    assert found != ids
    for token, other in zip(ids, found, strict=True):
        pieces = sender.encode(reader.decode([token]), add_special_tokens=False)
        longest = pieces[0]
        for piece in pieces:
            if len(sender.decode([piece])) > len(sender.decode([longest])):
                longest = piece
        assert other == longest
    assert realign([reader.bos_token_id], reader, sender) == [sender.bos_token_id]


def test_shut_gates_leave_the_receiver_alone(pair: tuple[Reader, Reader]) -> None:
    arm, direct = all_arms()["c2c"], all_arms()["receiver_direct"]
    setup = setup_of(arm, pair)
    setup.module.eval()
    rows = [Seen(context, {}) for context in CONTEXTS]
    alone = scores(pair[1], [direct.present(setup, None, row) for row in rows])
    torch.testing.assert_close(scores(pair[1], prompts_of(arm, setup)), alone, atol=1e-5, rtol=1e-5)
    open_gates(setup)
    assert not torch.allclose(scores(pair[1], prompts_of(arm, setup)), alone, atol=1e-3)


def test_the_private_receiver_knows_the_context_from_the_message_alone(
    pair: tuple[Reader, Reader],
) -> None:
    arm, reader = all_arms()["c2c_private"], pair[1]
    setup = setup_of(arm, pair)
    setup.module.eval()
    ids = reader.encode(f"Text: {CONTEXTS[0]}\n")
    blank = [*reader.bos, *[reader.eos] * (len(ids) - len(reader.bos))]
    query = reader.encode("Colour:")[len(reader.bos) :]
    alone = scores(reader, [[blank, query]])
    (message,) = arm.messages(setup, Batch(CONTEXTS[:1]))
    prompts = arm.prompts(setup, [message], [Seen(None, {})])
    torch.testing.assert_close(scores(reader, prompts), alone, atol=1e-5, rtol=1e-5)
    open_gates(setup)
    prompts = arm.prompts(setup, [message, -message], [Seen(None, {})] * 2)
    said = scores(reader, prompts)
    assert not torch.allclose(said[0], alone[0], atol=1e-3)
    assert not torch.allclose(said[0], said[1], atol=1e-3)


@pytest.mark.parametrize("name", ARMS)
def test_messages_and_weights_are_as_declared(
    name: str, pair: tuple[Reader, Reader], world: Path
) -> None:
    arm = all_arms()[name]
    setup, declared = setup_of(arm, pair), arm.declaration
    places = [reader.tokenizer.name_or_path for reader in pair]
    sizes = [shape_of({"weights": ""}, place) for place in places]
    shapes = {"sender": sizes[0], "receiver": sizes[1]}
    count = sum(parameter.numel() for parameter in setup.module.parameters())
    assert declared.trained_parameters(setup.settings, shapes) == count
    template = TASK["receiver_prompt" if name == "c2c" else "sender_prompt"]
    for context, message in zip(CONTEXTS, arm.messages(setup, Batch(CONTEXTS)), strict=True):
        tokens = len(pair[1].encode(template.replace("{context}", context))) - (name == "c2c")
        vectors, width = declared.vectors(setup.settings, shapes, tokens)
        assert message.shape[-1] == width
        assert message.numel() == vectors * width


def test_keys_are_fused_layer_by_layer_as_explicit_loops_do(pair: tuple[Reader, Reader]) -> None:
    """Also where the sharer has read fewer tokens than the receiver, or more."""
    sender, reader = pair
    fusion = setup_of(all_arms()["c2c"], pair).module.eval()
    open_gates(Setup(None, TASK, reader, None, module=fusion))
    ids = [5, 6, 7, 8, 9]
    (own,), (sent,) = (keys_values(each, [[row]]) for each, row in ((reader, ids), (sender, ids)))
    layers, _, heads, tokens, width = own.shape
    flat = sent[-layers:].transpose(2, 3).flatten(3)
    for read in (flat, flat[:, :, :-2], torch.cat([flat, flat[:, :, :1]], 2)):
        (fused,), expected = fusion([read], [own]), own.clone()
        for layer in range(layers):
            at = len(sent) - layers + layer
            for which in range(2):
                projector = fusion.projectors[2 * layer + which]
                for token in range(min(tokens, read.shape[2])):
                    whole = torch.cat(
                        [sent[at, which, head, token] for head in range(sent.shape[2])]
                        + [own[layer, which, head, token] for head in range(heads)]
                    )
                    hidden = projector.common(projector.enter(whole))
                    weights = projector.weigh(hidden).sigmoid()
                    added = projector.project(hidden)
                    for head in range(heads):
                        part = added[head * width : (head + 1) * width]
                        expected[layer, which, head, token] += weights[head] * part
        torch.testing.assert_close(fused, expected, atol=1e-5, rtol=1e-5)


def learn(learner: Learner, setup: Setup, steps: int) -> list[float]:
    """So many steps on one batch; the loss of each."""
    losses = []
    for _ in range(steps):
        messages = learner.messages(Batch(CONTEXTS))
        prompts = learner.prompts(setup, messages, ROWS)
        said = [[5 + n, 9] for n in range(len(prompts))]
        ask = Ask(setup.reader, prompts, said, Counts(8, 4), TRAIN, None, learner.leaves(), 3)
        losses += [float(loss) for loss in gradients([ask])]
        learner.update(TRAIN["learning_rate"])
    return losses


@pytest.mark.parametrize("name", ARMS)
def test_a_few_steps_lower_the_loss_and_change_neither_model(
    name: str, pair: tuple[Reader, Reader]
) -> None:
    arm = all_arms()[name]
    setup = setup_of(arm, pair)
    before = {n: p.clone() for n, p in setup.module.named_parameters()}
    frozen = [p.clone() for reader in pair for p in reader.model.parameters()]
    losses = learn(Learner(arm, setup, TRAIN), setup, 40)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    assert not any(torch.equal(p, before[n]) for n, p in setup.module.named_parameters())
    after = [p for reader in pair for p in reader.model.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(frozen, after, strict=True))
    setup.module.eval()
    once, again = (scores(pair[1], prompts_of(arm, setup)) for _ in range(2))
    assert torch.equal(once, again)


def half_by_half(setup: Setup, prompts: Any, leaves: Sequence[Tensor], rows: int) -> Ask:
    """A batch of two tasks, each row also with the message of another."""
    own, other = prompts(range(4)), prompts([1, 0, 3, 2])
    said = [[5 + place, 9] for place in range(4)]
    return Ask(
        setup.reader, own, said, Counts(8, 4), TRAIN, None, [*leaves], rows, other, separation=0.1
    )


@pytest.mark.parametrize("name", ARMS)
def test_gradients_are_those_of_one_pass_however_the_receiver_comes_by_them(
    name: str, pair: tuple[Reader, Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tasks, a row at a time, and memory that runs out when a part has been sent already."""
    arm = all_arms()[name]
    plain, setup = setup_of(arm, pair), setup_of(arm, pair)
    sent = arm.messages(plain, Batch(CONTEXTS))

    def presented(order: Sequence[int]) -> list[Any]:
        mine, seen = [sent[place] for place in order], [Seen(text, {}) for text in CONTEXTS]
        return [*arm.prompts(plain, mine[:2], seen[:2]), *arm.prompts(plain, mine[2:], seen[2:])]

    gradients([half_by_half(plain, presented, [], 4)])
    expected = [parameter.grad for parameter in plain.module.parameters()]

    learner = Learner(arm, setup, TRAIN)
    messages = learner.messages(Batch(CONTEXTS))

    def learnt(order: Sequence[int]) -> list[Any]:
        mine = [messages[place] for place in order]
        halves = ((mine[:2], ROWS[:2]), (mine[2:], ROWS[2:]))
        return [prompt for half in halves for prompt in learner.prompts(setup, *half)]

    ask = half_by_half(setup, learnt, [], 1)
    passes = iter([False, True])

    def answers(*asked: Any) -> Any:
        if next(passes, False):
            raise torch.OutOfMemoryError
        return answer_logits(*asked)

    monkeypatch.setattr("lwspec.kernels.training.receiver_pass.answer_logits", answers)
    (told,), _ = receive([replace(ask, leaves=learner.leaves(), rows_at_once=2)], together=False)
    assert isinstance(told, Told)
    assert told.rows_at_once == 1
    found: list[Tensor] = []
    parameters = list(setup.module.parameters())
    monkeypatch.setattr(
        learner.optimizer, "step", lambda: found.extend(p.grad.clone() for p in parameters)
    )
    learner.update(TRAIN["learning_rate"])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    kept = [part for prompt in ask.prompts for part in prompt if isinstance(part, Cached)]
    assert all(t.grad is None for part in kept for pair in part.layers.values() for t in pair)


def test_what_is_drawn_comes_of_step_and_row_so_that_a_fit_goes_on_bit_by_bit(
    pair: tuple[Reader, Reader], tmp_path: Path
) -> None:
    arm = all_arms()["c2c"]
    whole, first = setup_of(arm, pair), setup_of(arm, pair)
    learn(Learner(arm, whole, TRAIN), whole, 5)
    stopped = Learner(arm, first, TRAIN)
    learn(stopped, first, 3)
    place = save_checkpoint(
        tmp_path,
        first.module.state_dict(),
        optimizer_tensors(stopped.optimizer),
        Progress(step=3),
    )
    torch.manual_seed(99)
    resumed = replace(first, module=arm.build(first))
    learner = Learner(arm, resumed, TRAIN)
    load_checkpoint(place, resumed.module, learner.optimizer)
    learn(learner, resumed, 2)
    state = resumed.module.state_dict()
    assert all(torch.equal(state[name], its) for name, its in whole.module.state_dict().items())
    assert isinstance(resumed.module, CacheFusion)
    assert int(resumed.module.begun) == 5


def test_rows_of_a_batch_draw_their_own_gates(pair: tuple[Reader, Reader]) -> None:
    setup = setup_of(all_arms()["c2c"], pair, dropout=0.0)
    (sent,), (own,) = (keys_values(each, [[[5, 6, 7]]]) for each in pair)
    sent = sent[-len(own) :].transpose(2, 3).flatten(3)
    setup.module.begin_step()
    one, other = setup.module([sent] * 2, [own] * 2)
    assert not torch.equal(one, other)
    (third,) = setup.module([sent], [own])  # presented later in the same step
    assert not torch.equal(one, third)


@pytest.mark.parametrize("name", ARMS)
def test_rows_of_all_lengths_are_fused_together_as_each_alone(
    name: str, pair: tuple[Reader, Reader]
) -> None:
    arm = all_arms()[name]
    setup = setup_of(arm, pair)
    setup.module.eval()
    open_gates(setup)
    alone = torch.cat([scores(pair[1], prompts_of(arm, setup, [one])) for one in CONTEXTS])
    together = scores(pair[1], prompts_of(arm, setup))
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def assert_said_with_hard_gates(project: Project, record: dict[str, Any], path: Path) -> None:
    """An evaluation's answers are the module's with nothing drawn and nothing dropped."""
    arm, checkpoint = all_arms()[record["arm"]], record["checkpoint"]
    pair = load(project.folder, "llama"), load(project.folder, "mistral")
    setup = setup_of(arm, pair, anneal_steps=12)
    setup = replace(setup, task={**TASK, "sender_prompt": TASK["receiver_prompt"]})
    weights = f"attempt-1/weights/epoch-{checkpoint['epoch']:03d}.safetensors"
    file = project.runs / checkpoint["fit"] / weights
    setup.module.load_state_dict(load_file(file))
    setup.module.eval()
    table = read_table(path.parent / "predictions/test.parquet").to_pylist()
    (rows,) = project.runs.glob("*/attempt-1/rows/test.parquet")
    contexts = {row.item: row.context for row in read_rows(rows)}
    texts = [contexts[row["item"]] for row in table]
    received, _ = wire.send(arm.messages(setup, Batch(texts)), "bfloat16")
    prompts = arm.prompts(setup, received, [Seen(text, {}) for text in texts])
    labels = [pair[1].answer_ids("Colour:", f" {label}") for label in record["labels"]]
    said = answer(pair[1], prompts, labels).label_logprobs
    stored = torch.tensor([row["label_logprobs"] for row in table])
    torch.testing.assert_close(said, stored, atol=1e-3, rtol=1e-4)


@pytest.mark.slow
def test_both_run_from_a_spec(project: Project) -> None:
    settings = "{ anneal_steps = 12, width = 16 }"
    head = project.spec.read_text().split("[[experiment]]")[0]
    blocks = [
        f'[[experiment]]\nname = "{arm}"\narms = ["{arm}"]\n{arm} = {settings}\n\n'
        f'[[table]]\nname = "{arm}"\nexperiments = ["{arm}"]\n'
        for arm in ARMS
    ]
    project.write(head + "\n".join(blocks))
    project.change("seeds = [1, 2]", "seeds = [1]")
    project.run("plan", "small.toml")
    project.run("submit")
    found = {}
    for path in project.runs.glob("evaluate-*/attempt-1/evaluation.json"):
        record = read_json(path)
        found[record["arm"]] = record["metrics"]["message_bytes"]
        assert_said_with_hard_gates(project, record, path)
    assert sorted(found) == ARMS
    assert found["c2c_private"] > found["c2c"] > 0  # which leaves out the last token


@pytest.mark.parametrize("name", ARMS)
def test_gradients_reach_every_weight(name: str, pair: tuple[Reader, Reader]) -> None:
    arm = all_arms()[name]
    setup = setup_of(arm, pair)
    prompts = prompts_of(arm, setup)
    ask = Ask(setup.reader, prompts, [[5, 9]] * 4, Counts(8, 4), TRAIN, None, [], 4)
    gradients([ask])
    for weight in setup.module.parameters():
        assert weight.grad is not None
        assert bool((weight.grad != 0).any())


@pytest.mark.parametrize("name", ARMS)
def test_each_row_of_a_batch_is_read_in_its_own_tasks_prompt(
    name: str, pair: tuple[Reader, Reader]
) -> None:
    arm = all_arms()[name]
    setup = setup_of(arm, pair)
    other = {**TASK, "receiver_prompt": "{context}\nText:", "sender_prompt": "Colour: {context}"}
    none_shared = replace(setup, task={})
    mixed = arm.messages(none_shared, Batch(CONTEXTS[:2], tasks=[TASK, other]))
    for task, context, message in zip((TASK, other), CONTEXTS, mixed, strict=False):
        (alone,) = arm.messages(replace(setup, task=task), Batch([context]))
        torch.testing.assert_close(message, alone, atol=1e-5, rtol=1e-5)
