"""ICAE, 500xCompressor and gist: against their published code, and against plain passes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from lwspec.engine.arm import Role
from lwspec.engine.plan.refuse import serialised_bytes
from lwspec.engine.shapes import shape_of
from lwspec.errors import ModelError
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.arms import all_arms
from lwspec.kernels.data.rows import Row
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.measuring import wire
from lwspec.kernels.message import Prompt
from lwspec.kernels.methods.memory import Memory, handed_over, last_keys_values, side_by_side
from lwspec.kernels.models.adapters import add_adapters
from lwspec.kernels.models.answer_logits import answer_logits
from lwspec.kernels.models.answering import answer
from lwspec.kernels.models.hidden import last_states
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.prompts import query_ids
from lwspec.kernels.setup import answers_of, present_rows
from lwspec.kernels.training.learner import Learner
from lwspec.kernels.training.loss import Counts, answer_loss
from lwspec.kernels.training.receiver_pass import Ask
from lwspec.kernels.training.receiver_pass import answer as ask
from lwspec.kernels.training.tasks import in_common

GOLDEN = Path(__file__).parent / "golden"
ARMS = ["icae", "xcompressor", "gist", "gist_positive", "gist_negative"]
TASK = {
    "kind": "classification",
    "labels": ["red", "blue", "green stone"],
    "sender_prompt": "Text: {context}\n",
    "query": "Colour:",
    "answer": " {label}",
    "max_prompt_tokens": 40,
}
TRAIN = {
    "learning_rate": 1e-2,
    "weight_decay": 0.0,
    "clip_norm": 1e9,
    "supervised_tokens": None,
    "first_token_weight": 0.0,
    "distillation": 0.0,
    "distillation_temperature": 2.0,
}
ROWS = [
    Row(n, text, TASK["labels"][n], n)
    for n, text in enumerate(["warm river", "slow cloud cold bright dark quick", "stone"])
]
BATCH = Batch([row.context for row in ROWS], fields=[{}] * len(ROWS))


def load(world: Path, name: str = "llama") -> Reader:
    return Reader.load(world / "models" / name, "float32", None, torch.device("cpu"))


def built(
    world: Path, name: str, task: Mapping[str, Any] = TASK, **settings: Any
) -> tuple[Arm, Setup]:
    """An arm with its untrained module, sender and receiver being copies of one model."""
    arm = all_arms()[name]
    sender = load(world) if "sender" in arm.declaration.models else None
    parsed = arm.declaration.settings.model_validate(settings)
    setup = Setup(parsed, task, load(world), None, sender=sender)
    torch.manual_seed(5)
    return arm, replace(setup, module=arm.build(setup))


def disturb(setup: Setup) -> None:
    """Adapters as if trained: untrained they change nothing."""
    torch.manual_seed(6)
    for name, weight in setup.module.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.3)


def wavy(named: Mapping[str, Tensor], scale: float) -> None:
    """The weights from which the golden numbers were computed."""
    for n, (name, weight) in enumerate(sorted(named.items())):
        counted = torch.arange(weight.numel(), dtype=torch.float64)
        values = torch.sin(counted * (0.7 + 0.01 * n) + n) * scale
        weight.data.copy_((values + ("norm" in name)).view_as(weight))


def test_slots_are_those_of_the_published_code(world: Path) -> None:
    golden = json.loads((GOLDEN / "icae.json").read_text())
    model = LlamaForCausalLM(LlamaConfig(**golden["config"]))
    wavy(dict(model.named_parameters()), 0.3)
    reader = Reader(model, load(world).tokenizer, torch.device("cpu"))
    settings = all_arms()["icae"].declaration.settings(rank=golden["rank"], alpha=golden["alpha"])
    adapters = add_adapters(reader, "icae", settings)
    wavy(dict(adapters), 0.4)
    tokens, width = golden["tokens"], reader.width
    embeddings = torch.sin(torch.arange(tokens * width, dtype=torch.float64) * 1.3)
    memory = Memory(reader, last_states, adapters, embeddings.view(tokens, width), tokens)
    slots = memory(side_by_side([row["ids"] for row in golden["rows"]]))
    published = torch.tensor([row["slots"] for row in golden["rows"]])
    torch.testing.assert_close(slots.detach(), published, atol=1e-4, rtol=1e-4)


def test_an_untrained_memory_is_what_the_base_model_has_at_its_tokens(world: Path) -> None:
    """Token after token through a model without adapters."""
    base = load(world)
    made = {}
    for name in ("icae", "xcompressor"):
        arm, setup = built(world, name, tokens=3)
        made[name] = torch.stack(list(arm.messages(setup, BATCH))).detach(), setup.module.memory
    for row, text in enumerate(BATCH.contexts):
        for name, (messages, memory) in made.items():
            cache, states = DynamicCache(), []
            ids = base.encode(f"Text: {text}\n")
            for embedding in [*base.embed(ids), *memory.detach()]:
                given = {"past_key_values": cache, "use_cache": True}
                out = base.model.model(inputs_embeds=embedding[None, None], **given)
                states.append(out.last_hidden_state[0, 0])
            kept = [torch.cat([*x[0, :, -3:].unbind()], -1) for x in _keys_and_values(cache)]
            expected = torch.stack(states[-3:] if name == "icae" else kept).detach()
            torch.testing.assert_close(
                messages[row], expected.view_as(messages[row]), atol=1e-4, rtol=1e-4
            )


def _keys_and_values(cache: DynamicCache) -> list[Tensor]:
    """[1, heads, tokens, head_width]: of each layer the keys, then the values."""
    return [each for layer in cache.layers for each in (layer.keys, layer.values)]


def test_500x_answers_as_a_model_that_goes_on_from_the_memory(world: Path) -> None:
    """Each row by itself: all is read, the memory's keys and values are cut out and continued."""
    arm, setup = built(world, "xcompressor", tokens=3, rank=2)
    disturb(setup)
    label = setup.reader.answer_ids("Colour:", " green stone")
    prompts = present_rows(arm, setup, list(arm.messages(setup, BATCH)), ROWS)
    found = answer(setup.reader, prompts, [label]).label_logprobs[:, 0]
    for row, text in enumerate(BATCH.contexts):
        reader, whole = setup.sender, DynamicCache()
        read = torch.cat([reader.embed(reader.encode(f"Text: {text}\n")), setup.module.memory])
        reader.model(inputs_embeds=read[None], past_key_values=whole, use_cache=True)
        kept = DynamicCache((x.keys[:, :, -3:], x.values[:, :, -3:]) for x in whole.layers)
        query = reader.encode("Colour:")[1:]
        said = torch.tensor([[*query, *label]])
        logits = setup.reader.model(input_ids=said, past_key_values=kept, use_cache=True).logits
        logprobs = logits[0].log_softmax(-1)
        places = range(len(query) - 1, len(query) + len(label) - 1)
        expected = sum(logprobs[place, token] for place, token in zip(places, label, strict=True))
        torch.testing.assert_close(found[row], expected.detach(), atol=1e-4, rtol=1e-4)


def masked_logits(reader: Reader, embeds: Tensor, mask: Tensor) -> Tensor:
    """One pass over a whole row under a mask [T, T] of what may be seen, beside what is behind."""
    seen = mask.bool().tril()
    added = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    logits: Tensor = reader.model(inputs_embeds=embeds[None], attention_mask=added[None, None])
    return logits.logits[0]


@pytest.mark.parametrize("condition", ["gist", "positive", "negative"])
def test_gist_tokens_are_seen_as_the_published_mask_says(condition: str, world: Path) -> None:
    golden = json.loads((GOLDEN / "gist_masks.json").read_text())
    for row in golden["rows"]:
        ids, gist = row["ids"], golden["gist_token"]
        first, tokens = ids.index(gist), ids.count(gist)
        text, query = ids[:first], ids[first + tokens :]
        _, setup = built(world, "gist", tokens=tokens)
        disturb(setup)
        reader, module = setup.reader, setup.module
        (message,) = module(side_by_side([text]))
        handed = handed_over(reader, message)
        prompt: Prompt = {
            "gist": [handed, query[:1]],
            "positive": [text, module.memory, query[:1]],
            "negative": [query[:1]],
        }[condition]
        found, _ = answer_logits(reader, [prompt], [[*query[1:], reader.eos]])
        embeds = torch.cat([reader.embed(text), module.memory, reader.embed(query)])
        expected = masked_logits(reader, embeds, torch.tensor(row[condition]))
        torch.testing.assert_close(found[0], expected[-len(query) :], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ARMS)
def test_prompts_hold_what_each_arm_lets_the_query_see(name: str, world: Path) -> None:
    arm, setup = built(world, name, **({} if name == "gist_negative" else {"tokens": 3}))
    disturb(setup)
    messages: Sequence[Any] = [None] * len(ROWS)
    if arm.sends:
        messages = list(arm.messages(setup, BATCH))
    prompts = present_rows(arm, setup, messages, ROWS)
    (scores,) = answer(setup.reader, prompts, [[5]]).label_logprobs.T
    alike = torch.allclose(scores, scores[:1].expand_as(scores), atol=1e-6)
    assert alike is (name == "gist_negative")
    alone = present_rows(arm, setup, messages[2:], ROWS[2:])
    torch.testing.assert_close(answer(setup.reader, alone, [[5]]).label_logprobs[0], scores[2:])


def step(arm: Arm, setup: Setup, learner: Learner) -> float:
    """One update as the trainer makes it; the answers' cross-entropy before it."""
    answers = answers_of(setup)
    said = [[*answers.ids(row.target), setup.reader.eos] for row in ROWS]
    prompts = present_rows(arm, setup, learner.messages(BATCH), ROWS)
    counts = Counts(sum(map(len, said)), len(said))
    asked = Ask(setup.reader, prompts, said, counts, TRAIN, None, learner.leaves(), 2)
    (told,), _ = ask([asked], False)
    assert not isinstance(told, Exception), told
    learner.update(TRAIN["learning_rate"])
    return float(told.loss)


@pytest.mark.parametrize("name", ARMS)
def test_every_weight_learns_and_the_loss_falls(name: str, world: Path) -> None:
    arm, setup = built(world, name, rank=2)
    disturb(setup)
    before = {key: weight.clone() for key, weight in setup.module.state_dict().items()}
    models = [reader for reader in (setup.sender, setup.reader) if reader is not None]
    frozen = [w.clone() for r in models for n, w in r.model.named_parameters() if "lora_" not in n]
    learner = Learner(arm, setup, TRAIN)
    losses = [step(arm, setup, learner) for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]
    after = setup.module.state_dict()
    unmoved = {key for key in after if torch.equal(after[key], before[key])}
    # Keys and values of the last layer do not depend on what it asks for.
    assert all(name == "xcompressor" and "layers/2/self_attn/q_proj" in key for key in unmoved)
    kept = [w for r in models for n, w in r.model.named_parameters() if "lora_" not in n]
    assert all(torch.equal(one, other) for one, other in zip(frozen, kept, strict=True))


def test_gist_learns_from_both_of_its_passes(world: Path) -> None:
    """Gradients through the handed keys and values are those of one masked pass over the whole."""
    arm, setup = built(world, "gist", tokens=2, rank=2)
    disturb(setup)
    learner, found = Learner(arm, setup, TRAIN), []
    learner.optimizer.register_step_pre_hook(
        lambda *_: found.extend(weight.grad.clone() for weight in learner.parameters)
    )
    weights = [weight.detach().clone() for weight in learner.parameters]
    step(arm, setup, learner)
    for weight, old in zip(learner.parameters, weights, strict=True):
        weight.data.copy_(old)
    reader, memory = setup.reader, setup.module.memory
    query, answers = reader.encode("Colour:")[1:], answers_of(setup)
    loss, said = torch.zeros(()), [[*answers.ids(row.target), reader.eos] for row in ROWS]
    counts = Counts(sum(map(len, said)), len(said))
    for row, its in zip(ROWS, said, strict=True):
        text = reader.encode(f"Text: {row.context}\n")
        embeds = torch.cat([reader.embed(text), memory, reader.embed([*query, *its[:-1]])])
        mask = torch.ones(len(embeds), len(embeds))
        mask[len(text) + 2 :, : len(text)] = 0
        logits = masked_logits(reader, embeds, mask)[-len(its) :]
        loss = loss + answer_loss(logits[None], torch.tensor([its]), counts)
    expected = torch.autograd.grad(loss, learner.parameters)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", ["icae", "xcompressor"])
def test_autoencoding_is_the_texts_cross_entropy_from_the_message(name: str, world: Path) -> None:
    arm, setup = built(world, name, tokens=3, autoencoding=0.5)
    messages = list(arm.messages(setup, BATCH))
    reader, again = setup.reader, setup.module.again
    summed, count = 0.0, 0
    for message, text in zip(messages, BATCH.contexts, strict=True):
        ids = [*reader.encode(text)[1:], reader.eos]
        head = message if name == "icae" else handed_over(reader, message)
        for place in range(len(ids)):
            given = [head, again, *([ids[:place]] if place else [])]
            summed -= float(answer(reader, [given], [ids[place : place + 1]]).label_logprobs)
        count += len(ids)
    assert arm.loss(setup, messages).item() == pytest.approx(0.5 * summed / count, rel=1e-4)
    arm, setup = built(world, name, tokens=3, autoencoding=0)
    assert not arm.loss(setup, list(arm.messages(setup, BATCH))).requires_grad
    assert setup.module.again is None


@pytest.mark.parametrize("name", ARMS)
def test_what_is_declared_and_kept_is_what_is_trained(name: str, world: Path) -> None:
    arm, setup = built(world, name)
    module = setup.module
    beside = sum(w.numel() for n, w in module.named_parameters() if "lora_" not in n)
    width = setup.reader.width
    assert arm.declaration.parameters(setup.settings, width, width) == beside
    assert set(module.state_dict()) == {n for n, w in module.named_parameters() if w.requires_grad}


@pytest.mark.parametrize("name", ["icae", "xcompressor", "gist"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8", "int4"])
def test_a_message_takes_the_bytes_that_are_declared(
    name: str, precision: str, world: Path
) -> None:
    arm, setup = built(world, name, tokens=3)
    shape = shape_of({"weights": ""}, str(world / "models/llama"))
    shapes: dict[Role, Any] = {"sender": shape, "receiver": shape}
    vectors, width = 3, setup.reader.width
    if arm.declaration.vectors is not None:
        vectors, width = arm.declaration.vectors(setup.settings, shapes, 41)
    messages = list(arm.messages(setup, BATCH))
    received, sizes = wire.send(messages, precision)
    assert set(sizes) == {serialised_bytes(vectors, width, precision)}
    present_rows(arm, setup, received, ROWS)


def test_slots_for_a_receiver_of_another_width_need_a_linear_map(world: Path) -> None:
    arm = all_arms()["icae"]
    for linear in (False, True):
        settings = arm.declaration.settings(tokens=3, linear=linear)
        other = load(world, "mistral")
        setup = Setup(settings, TASK, other, None, sender=load(world))
        if not linear:
            with pytest.raises(ModelError, match="width 32 are handed to a receiver of width 24"):
                arm.build(setup)
            continue
        setup = replace(setup, module=arm.build(setup))
        messages = list(arm.messages(setup, BATCH))
        assert messages[0].shape == (3, 24)
        assert arm.loss(setup, messages).item() > 0
        beside = [w for n, w in setup.module.named_parameters() if "lora_" not in n]
        assert arm.declaration.parameters(settings, 32, 24) == sum(w.numel() for w in beside)


def test_texts_of_gist_end_at_one_position_whatever_their_length(world: Path) -> None:
    """Rotary positions count distances alone: shifted, a text is what it was."""
    _, setup = built(world, "gist", tokens=2)
    reader, query = setup.reader, query_ids(setup, Seen(None, {}))
    prompts: list[Prompt] = [[reader.encode(text), setup.module.memory] for text in BATCH.contexts]
    label = reader.answer_ids("Colour:", " red")
    with torch.no_grad():
        scores = []
        for ends in (2, 12, 43):
            made = last_keys_values(reader, prompts, 2, ends)
            handed = [[replace(handed_over(reader, one), tokens=ends), query] for one in made]
            scores.append(answer(reader, handed, [label]).label_logprobs)
    for later in scores[1:]:
        torch.testing.assert_close(scores[0], later, atol=1e-4, rtol=1e-4)


def test_gist_refuses_a_model_whose_positions_are_not_rotary(world: Path) -> None:
    arm = all_arms()["gist"]
    setup = Setup(arm.declaration.settings(targets=["c_attn"]), TASK, load(world, "gpt"), None)
    with pytest.raises(ModelError, match="GPT2LMHeadModel has no rotary positions"):
        arm.build(setup)


@pytest.mark.parametrize("name", ["icae", "xcompressor", "gist"])
def test_texts_are_cut_as_their_own_task_says(name: str, world: Path) -> None:
    """In a fit over tasks whose limits differ, as in an evaluation of each."""
    tasks = [{**TASK, "max_prompt_tokens": most} for most in (40, 4, 3)]
    arm, setup = built(world, name, in_common(tasks), tokens=3)
    together = arm.messages(setup, replace(BATCH, tasks=tasks))
    texts = list(setup.module.texts)
    for n, task in enumerate(tasks):
        own = replace(setup, task=task)
        (alone,) = arm.messages(own, Batch(BATCH.contexts[n : n + 1], fields=[{}]))
        torch.testing.assert_close(together[n], alone, atol=1e-4, rtol=1e-4)
        assert setup.module.texts == texts[n : n + 1]
        present_rows(arm, own, [together[n]], ROWS[n : n + 1])
