"""Small parts on their own: splits, stored states, bytes, parsing, metrics, the probe, prices."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lwspec.engine.job import price_key
from lwspec.engine.plan.locate import TOY_ROWS
from lwspec.engine.plan.price import Measurement, price, unit_of
from lwspec.engine.plan.refuse import serialised_bytes
from lwspec.errors import DataError
from lwspec.kernels.arm import Batch, Setup
from lwspec.kernels.arms.linear_probe import ARM as PROBE
from lwspec.kernels.arms.linear_probe import Settings
from lwspec.kernels.data import stored
from lwspec.kernels.data.rows import Row, split_rows
from lwspec.kernels.measuring import wire
from lwspec.kernels.measuring.metrics import (
    macro_f1,
    normalised,
    parse_answer,
    text_scores,
    token_f1,
)
from lwspec.kernels.toy.text import SIZES


def rows(*texts: str) -> list[Row]:
    return [Row(item, text, "", 0) for item, text in enumerate(texts)]


def split(source: str, count: int | None = None) -> dict[str, object]:
    return {"source": source, "rows": count}


def texts(found: list[Row]) -> set[str]:
    return {row.context for row in found}


def test_carved_splits_are_disjoint_and_whole() -> None:
    sources = {"train": rows(*(f"text {n}" for n in range(100))), "test": rows("a", "b")}
    splits = {"train": split("train"), "validation": split("train", 20), "test": split("test")}
    found, left_out = split_rows(sources, splits, 0)
    assert [len(found[name]) for name in ("train", "validation", "test")] == [80, 20, 2]
    assert not texts(found["train"]) & texts(found["validation"])
    assert left_out == 0
    again, _ = split_rows(sources, splits, 0)
    other, _ = split_rows(sources, splits, 1)
    assert found == again
    assert found["validation"] != other["validation"]


def test_a_text_of_test_is_left_out_of_what_is_learnt_from() -> None:
    sources = {"train": rows("a", "A  ", "b", "c", "d"), "test": rows("a", "x")}
    splits = {"train": split("train"), "validation": split("train", 2), "test": split("test")}
    found, left_out = split_rows(sources, splits, 0)
    assert texts(found["test"]) == {"a", "x"}
    assert len(found["validation"]) == 2
    assert texts(found["train"]) | texts(found["validation"]) == {"b", "c", "d"}
    assert left_out == 2
    with pytest.raises(DataError, match="3 are left for it"):
        split_rows(sources, {**splits, "validation": split("train", 4)}, 0)


def test_a_text_of_validation_is_left_out_of_train_even_across_sources() -> None:
    sources = {"train": rows("a", "b"), "dev": rows("b"), "test": rows("c")}
    splits = {"train": split("train"), "validation": split("dev"), "test": split("test")}
    assert texts(split_rows(sources, splits, 0)[0]["train"]) == {"a"}


def test_states_are_read_back_row_by_row_across_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "BLOCK_ROWS", 3)
    made = [torch.randn(1 + n % 4, 5) for n in range(8)]
    files = []
    for block in range(3):
        files.append(tmp_path / f"{block}.safetensors")
        stored.write_states(files[-1], made[3 * block : 3 * block + 3], 5)
    states = stored.States([stored.StoredBlock(file) for file in files])
    assert states.width == 5
    rows = [7, 0, 4, 2, 1, 3, 6, 5]
    for row, found in zip(rows, states.of(rows), strict=True):
        assert torch.equal(found, made[row])


def test_a_message_arrives_as_its_bytes_say() -> None:
    soft = torch.randn(3, 7)
    (exact,), (size,) = wire.send([soft], "float32")
    assert size == 3 * 7 * 4
    assert torch.equal(exact, soft)
    (rounded,), (size,) = wire.send([soft], "bfloat16")
    assert size == 3 * 7 * 2
    assert torch.equal(rounded, soft.bfloat16().float())
    assert not torch.equal(rounded, soft)
    (text,), (size,) = wire.send(["Grüße"], "text")
    assert (text, size) == ("Grüße", 7)


@pytest.mark.parametrize(("precision", "largest"), [("int8", 127), ("int4", 7)])
def test_whole_numbers_are_rounded_over_each_vectors_own_scale(
    precision: str, largest: int
) -> None:
    torch.manual_seed(0)
    soft = torch.randn(2, 3, 5) * torch.tensor([1.0, 30.0, 0.0])[:, None]
    (found,), (size,) = wire.send([soft], precision)
    assert size == 2 * 6 + (30 if precision == "int8" else 15)
    for vector, read in zip(soft.view(6, 5), found.view(6, 5), strict=True):
        scale = torch.tensor(float(vector.abs().max()) / largest).bfloat16().item()
        for number, said in zip(vector.tolist(), read.tolist(), strict=True):
            whole = round(number / scale) if scale else 0
            assert said == pytest.approx(max(-largest, min(largest, whole)) * scale)
    assert found.shape == soft.shape


@pytest.mark.parametrize(("precision", "error"), [("int8", 0.02), ("int4", 0.2)])
@pytest.mark.parametrize("rms", [1e-12, 1e-6, 1e-4, 1.0, 1e7])
def test_vectors_of_any_size_arrive_equally_well(precision: str, error: float, rms: float) -> None:
    torch.manual_seed(0)
    soft = torch.randn(8, 64) * rms
    (found,), _ = wire.send([soft], precision)
    assert float((found - soft).norm() / soft.norm()) < error


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8", "int4"])
def test_a_message_of_no_tokens_arrives_as_one(precision: str) -> None:
    (found,), (size,) = wire.send([torch.empty(0, 7)], precision)
    assert (found.shape, size) == (torch.Size([0, 7]), 0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8", "int4"])
@pytest.mark.parametrize("shape", [(8, 64), (1, 5), (3, 7)])
def test_what_a_plan_says_of_bytes_is_what_they_take(
    shape: tuple[int, int], precision: str
) -> None:
    assert serialised_bytes(*shape, precision) == len(wire.pack(torch.randn(shape), precision))


@pytest.mark.parametrize(
    ("written", "found"),
    [
        (" positive", 1),
        ("positive\nand more", 1),
        (" negative ", 0),
        ("not positive", None),
        ("positively", None),
        ("", None),
        ("Positive", None),
        ("a", None),
    ],
)
def test_only_a_whole_answer_counts(written: str, found: int | None) -> None:
    assert parse_answer(written, [" negative", " positive"]) == found


def test_macro_f1_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import f1_score

    source = random.Random(0)
    for count in (1, 5, 200):
        labels, said = (source.choices(range(4), k=count) for _ in range(2))
        f1 = f1_score(labels, said, labels=range(5), average="macro", zero_division=0.0)
        assert macro_f1(labels, said, 5) == pytest.approx(f1)


def test_macro_f1_counts_labels_that_nobody_predicted() -> None:
    assert macro_f1([0, 0, 1, 2], [0, 0, 0, 0], 3) == pytest.approx((2 * 0.5 * 1 / 1.5) / 3)


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 2], [0, 2]])
def test_the_probe_learns_and_survives_an_absent_label(labels: list[int]) -> None:
    torch.manual_seed(0)
    centres = 3 * torch.randn(3, 6)
    given = [labels[n % len(labels)] for n in range(60)]
    pooled = torch.stack([torch.randn(6) + centres[label] for label in given])
    setup = Setup(Settings(layer=1, folds=3), {}, None, 6)
    batch = Batch([""] * 60, pooled=pooled)
    solved = PROBE.solve(setup, batch, given, 3)
    assert solved.parameters == 3 * (6 + 1)
    logprobs = PROBE.predict(replace(setup, weights=solved.weights), batch)
    assert torch.allclose(logprobs.exp().sum(-1), torch.ones(60, dtype=torch.float64))
    predicted = logprobs.argmax(-1).tolist()
    assert sum(p == g for p, g in zip(predicted, given, strict=True)) >= 57
    assert set(predicted) <= set(labels)


def test_a_price_is_modelled_until_its_like_was_measured() -> None:
    key = price_key("fit", "bridge", beside=False)
    modelled = price(key, 3600.0, "h200", [])
    assert (modelled.p50_hours, modelled.source) == (1.0, "modelled")
    assert modelled.p90_hours > modelled.p50_hours
    past = [Measurement("fit bridge", "h200", 10.0, seconds) for seconds in (20.0, 30.0, 40.0)]
    other = [
        Measurement("fit other", "h200", 1.0, 900.0),
        Measurement("fit bridge", "cpu", 1.0, 900.0),
        Measurement(price_key("fit", "bridge", beside=True), "h200", 1.0, 900.0),
    ]
    measured = price(key, 3600.0, "h200", [*past, *other])
    assert (measured.p50_hours, measured.source) == (3.0, "measured")
    assert measured.p90_hours == 4.0


def test_the_planner_knows_how_many_toy_rows_there_are() -> None:
    assert TOY_ROWS == SIZES


def test_rouge_of_a_worked_example() -> None:
    """Six words said, five of the six wanted among them, in order; four shared bigrams of five."""
    scores = text_scores(["the cat sat on the mat"], [["the cat was on the mat"]])
    assert scores["rouge1"] == [pytest.approx(5 / 6)]
    assert scores["rouge2"] == [pytest.approx(3 / 5)]
    assert scores["rougeL"] == [pytest.approx(5 / 6)]
    assert scores["exact_match"] == [0.0]
    nothing = text_scores([""], [["some Words"]])
    assert all(rows == [0.0] for rows in nothing.values())


def test_answers_are_compared_as_squad_does() -> None:
    assert normalised("The  Eiffel-Tower, (Paris)!") == "eiffeltower paris"
    assert token_f1("in the year 1889", "1889") == pytest.approx(2 * 1 / (3 + 1))
    assert token_f1("red red blue", "red blue blue") == pytest.approx(2 * 2 / 6)
    assert token_f1("the", "") == 1.0
    assert text_scores(["An Apple."], [["pear", "apple"]])["exact_match"] == [1.0]


PATTERN = r"#### (-?[\d.,]+)"


@pytest.mark.parametrize(
    ("written", "right", "unparsed"),
    [
        ("9 - 2 = 7\n#### 7", 1.0, 0.0),
        ("#### 7\n\nQuestion: another\n#### 12", 1.0, 0.0),
        ("#### -7", 0.0, 0.0),
        ("the answer is 7", 0.0, 1.0),
        ("#### 1,007", 0.0, 0.0),
    ],
)
def test_an_answer_inside_a_longer_text_is_extracted_strictly(
    written: str, right: float, unparsed: float
) -> None:
    scores = text_scores([written], [["1 + 6 = 7\n#### 7"]], PATTERN)
    assert (scores["exact_match"], scores["unparsed_rate"]) == ([right], [unparsed])
    assert text_scores(["#### 1,007."], [["#### 1007"]], PATTERN)["exact_match"] == [1.0]


def test_gpus_are_known_by_their_full_names() -> None:
    assert unit_of("NVIDIA H200") == "h200"
    assert unit_of("NVIDIA A100-SXM4-80GB") == "a100"
    assert unit_of(None) == "cpu"
    assert unit_of("Tesla T4") is None
