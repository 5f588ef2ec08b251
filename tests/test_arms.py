"""Arms beside the bridge: each against what it must be, and all of them run from a spec."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Project
from pyarrow import parquet

from lwspec.errors import ModelError
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.arms import all_arms
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.methods.byte_encoder import _segment_means, as_bytes
from lwspec.kernels.models.answer_logits import answer_logits
from lwspec.kernels.models.answering import answer
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.training.loss import Counts, answer_loss

TASK = {
    "labels": ["red", "blue", "green stone"],
    "receiver_prompt": "Text: {context}\nColour:",
    "query": "Colour:",
    "answer": " {label}",
    "max_prompt_tokens": 40,
}


@pytest.fixture
def reader(world: Path) -> Reader:
    return Reader.load(world / "models/mistral", "float32", None, torch.device("cpu"))


def setup_of(arm: Arm, reader: Reader, **settings: Any) -> Setup:
    return Setup(arm.declaration.settings.model_validate(settings), TASK, reader, 32)


def first_scores(reader: Reader, prompts: list[Any]) -> torch.Tensor:
    return answer(reader, prompts, [[5], [6]]).label_logprobs


def states(rows: int) -> Batch:
    torch.manual_seed(1)
    return Batch([""] * rows, pooled=torch.randn(rows, 32))


def seen(context: str) -> Seen:
    return Seen(context, {})


@pytest.mark.parametrize("name", ["bridge", "byte_bridge", "prompt_tuning"])
def test_declared_parameters_are_those_that_are_trained(name: str, reader: Reader) -> None:
    arm = all_arms()[name]
    given = {"bridge": {"layer": 1, "width": 16, "heads": 2}, "prompt_tuning": {"text": True}}
    setup = setup_of(arm, reader, **given.get(name, {}))
    module = arm.build(setup)
    count = sum(parameter.numel() for parameter in module.parameters())
    assert arm.declaration.parameters(setup.settings, 32, reader.width) == count


def test_tuned_prompts_start_as_tokens_and_see_the_text_only_where_told(reader: Reader) -> None:
    arm = all_arms()["prompt_tuning"]
    for text in (True, False):
        setup = setup_of(arm, reader, tokens=3, text=text)
        torch.manual_seed(0)
        setup = replace(setup, module=arm.build(setup))
        rows = list(setup.module["prompt"])
        assert all(
            any(torch.equal(row, known) for known in reader.embedding.weight) for row in rows
        )
        prompts = [
            arm.present(setup, None, seen(context)) for context in ("red blue", "dark river")
        ]
        scores = first_scores(reader, prompts)
        assert torch.equal(scores[0], scores[1]) is not text


def test_an_untrained_adapter_changes_nothing_and_a_trained_one_only_itself(reader: Reader) -> None:
    direct, lora = all_arms()["receiver_direct"], all_arms()["lora"]
    before = first_scores(
        reader, [direct.present(setup_of(direct, reader), None, seen("red blue"))]
    )
    frozen = {name: p.clone() for name, p in reader.model.named_parameters()}
    setup = setup_of(lora, reader, rank=2)
    module = lora.build(setup)
    prompt = [lora.present(setup, None, seen("red blue"))]
    torch.testing.assert_close(first_scores(reader, prompt), before)
    optimizer = torch.optim.SGD(module.parameters(), lr=5.0)
    for _ in range(3):
        optimizer.zero_grad()
        logits, tokens = answer_logits(reader, prompt, [[5, reader.eos]])
        answer_loss(logits, tokens, Counts(2, 1)).backward()
        optimizer.step()
    assert not torch.allclose(first_scores(reader, prompt), before)
    for name, parameter in reader.model.named_parameters():
        if "lora_" not in name:
            assert torch.equal(parameter, frozen[name.replace(".base_layer", "")]), name
    assert all("lora_" in name for name in module.state_dict())


def test_an_adapter_for_layers_that_are_not_there(reader: Reader) -> None:
    lora = all_arms()["lora"]
    with pytest.raises(ModelError, match="no adapter fits"):
        lora.build(setup_of(lora, reader, targets=["c_attn"]))


def test_few_shot_shows_solved_examples_before_the_text(reader: Reader) -> None:
    arm = all_arms()["few_shot"]
    setup = replace(
        setup_of(arm, reader), examples=[(seen("slow cloud"), " red"), (seen("warm"), " blue")]
    )
    (ids,) = arm.present(setup, None, seen("dark river"))
    assert reader.tokenizer.decode(ids[1:]) == (
        "Text: slow cloud\nColour: red\n\nText: warm\nColour: blue\n\nText: dark river\nColour:"
    )


def test_a_random_map_is_orthogonal_and_another_for_every_seed(reader: Reader) -> None:
    arm = all_arms()["random_map"]
    setup = setup_of(arm, reader, layer=1, tokens=4)
    batch, maps = states(5), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        maps.append(arm.solve(setup, batch, [0] * 5, 3).weights["map"])
    assert torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])
    torch.testing.assert_close(maps[0] @ maps[0].T, torch.eye(reader.width), atol=1e-5, rtol=0)
    soft = torch.stack(list(arm.message(replace(setup, weights={"map": maps[0]}), batch)))
    assert soft.shape == (5, 4, reader.width)
    rms = soft.pow(2).mean(-1).sqrt()
    torch.testing.assert_close(rms, torch.full_like(rms, reader.embedding_rms))


def test_the_ridge_map_is_the_closed_form(reader: Reader) -> None:
    arm = all_arms()["ridge_map"]
    setup = setup_of(arm, reader, layer=1, penalties=[2.0])
    batch, labels = states(12), [n % 3 for n in range(12)]
    solved = arm.solve(setup, batch, labels, 3)
    features = batch.pooled.double()
    embedding = reader.embedding.weight.double()
    answers = [reader.answer_ids("\nColour:", f" {label}") for label in TASK["labels"]]
    targets = torch.stack([embedding[ids].mean(0) for ids in answers])[labels]
    x, y = features - features.mean(0), targets - targets.mean(0)
    weights = torch.linalg.solve(x.T @ x + 2.0 * torch.eye(32, dtype=torch.float64), x.T @ y).T
    torch.testing.assert_close(solved.weights["map"].double(), weights, atol=1e-5, rtol=1e-4)
    offset = targets.mean(0) - weights @ features.mean(0)
    torch.testing.assert_close(solved.weights["offset"].double(), offset, atol=1e-5, rtol=1e-4)


def test_bytes_are_averaged_in_equal_segments_of_each_text() -> None:
    x, lengths = torch.randn(3, 9, 4), [9, 5, 2]
    means = _segment_means(x, torch.tensor(lengths), 3)
    for row, length in enumerate(lengths):
        for segment in range(3):
            members = [x[row, t] for t in range(length) if t * 3 // length == segment]
            expected = torch.stack(members).mean(0) if members else torch.zeros(4)
            torch.testing.assert_close(means[row, segment], expected)


def test_a_byte_message_does_not_depend_on_what_stands_beside_it(reader: Reader) -> None:
    arm = all_arms()["byte_bridge"]
    setup = setup_of(arm, reader, width=16, depth=2, heads=2, max_bytes=12)
    torch.manual_seed(0)
    setup = replace(setup, module=arm.build(setup).eval())
    texts = ["röd", "a much longer text than twelve bytes", ""]
    together = arm.messages(setup, Batch(texts))
    for row, text in enumerate(texts[:2]):
        torch.testing.assert_close(together[row], arm.messages(setup, Batch([text]))[0])
    assert as_bytes(texts, 12).shape == (3, 12)
    assert torch.isfinite(together[2]).all()


EXPERIMENT = """
[[experiment]]
name = "others"
arms = [
    "few_shot", "prompt_tuning", "lora", "byte_bridge", "random_map", "ridge_map",
    "perplexity_pruning",
]
few_shot = { max_prompt_tokens = 100 }
prompt_tuning = { text = true }
lora = { rank = 2 }
byte_bridge = { width = 16, depth = 1, heads = 2 }
random_map = { layer = 1 }
ridge_map = { layer = 1 }
seeds = [3]

[[experiment]]
name = "chance"
arms = ["prompt_tuning"]
prompt_tuning = { text = false }
seeds = [3]

[[table]]"""


def test_every_arm_runs_from_a_spec(project: Project) -> None:
    project.keep("probe")
    project.change("[[table]]", EXPERIMENT.lstrip())
    project.change('experiments = ["probe"]', 'experiments = ["others", "chance"]')
    shown = 'experiments = ["others", "chance"]\n'
    project.change(f'{shown}caption = "Acc', f'{shown}unequal = "two ways"\ncaption = "Acc')
    project.run("plan", "small.toml")
    project.run("submit", "--only", "evaluate")
    project.run("report", "small.toml", "--paper", "paper", "--strict")
    scores = {}
    for path in project.runs.glob("evaluate-*/attempt-1/evaluation.json"):
        record = json.loads(path.read_text())
        scores.setdefault(record["arm"], []).append(path.parent)
        assert record["n"] == 30
    assert len(scores["prompt_tuning"]) == 2
    constant = [
        len(
            set(
                map(
                    tuple,
                    parquet.read_table(p / "predictions/test.parquet")[
                        "label_logprobs"
                    ].to_pylist(),
                )
            )
        )
        for p in scores["prompt_tuning"]
    ]
    assert min(constant) < 4 < max(constant)
