"""A message that is known: the label's code, which the receiver must follow and nothing else."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Project
from pyarrow import parquet

from lwspec.errors import DataError
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.arms import all_arms
from lwspec.kernels.data.items import Items
from lwspec.kernels.data.rows import Row
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.measuring import wire
from lwspec.kernels.measuring.controls import DONORS
from lwspec.kernels.measuring.score import _ask, _messages
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.setup import answers_of

EXPERIMENT = """
[[experiment]]
name = "copy"
arms = ["linear_probe", "label_copy", "no_message"]
linear_probe = { layer = 1, folds = 2, inverse_penalties = [0.1, 1.0] }
label_copy = { layer = 1, folds = 2, inverse_penalties = [0.1, 1.0] }
evaluate = { max_bytes = 1 }

[[experiment]]
name = "controls"
arms = ["label_copy"]
label_copy = { layer = 1, folds = 2, inverse_penalties = [0.1, 1.0] }
controls = ["zero", "no_transfer", "other_label"]

[[table]]"""


def predictions(project: Project) -> dict[str, dict[str, list[Any]]]:
    found = {}
    for path in project.runs.glob("evaluate-*/attempt-1/evaluation.json"):
        settings = json.loads((path.parents[1] / "job.json").read_text())["settings"]
        name = settings.get("control", settings["arm"])
        found[name] = parquet.read_table(path.parent / "predictions/test.parquet").to_pydict()
    return found


def test_the_receiver_says_the_probes_label_for_one_byte(project: Project) -> None:
    project.keep("probe")
    project.change("[[table]]", EXPERIMENT.lstrip())
    project.change('experiments = ["probe"]', 'experiments = ["copy", "controls"]')
    project.run("submit", "small.toml", "--yes")
    found = predictions(project)
    copied, probed = found["label_copy"], found["linear_probe"]
    assert copied["predicted"] == probed["predicted"] != found["no_message"]["predicted"]
    assert set(copied["message_bytes"]) == {1.0}
    answers = [" red", " blue", " green stone"]
    assert copied["written"] == [answers[label] for label in copied["predicted"]]
    assert copied["strict_accuracy"] == copied["accuracy"] == probed["accuracy"]
    for row, label in zip(copied["label_logprobs"], copied["predicted"], strict=True):
        assert torch.tensor(row).exp().tolist() == [float(n == label) for n in range(3)]
    for control in ("zero", "no_transfer"):
        for column in ("label_logprobs", "written", "predicted"):
            assert found[control][column] == found["no_message"][column]
    rows = [Row(n, "", str(label), label) for n, label in enumerate(copied["label"])]
    items = Items(rows, range(len(rows)), None, None, None)
    donors = DONORS["other_label"](items, random.Random("0 other_label"))
    assert found["other_label"]["predicted"] == [probed["predicted"][donor] for donor in donors]


def test_a_code_crosses_as_it_is_at_any_precision() -> None:
    codes = [torch.tensor([code], dtype=torch.uint8) for code in (0, 1, 255)]
    for precision in ("text", "float32", "bfloat16", "int8", "int4"):
        received, sizes = wire.send(codes, precision)
        assert sizes == [1, 1, 1]
        assert all(map(torch.equal, received, codes))


def test_another_code_is_another_label_and_zero_is_the_query_alone(world: Path) -> None:
    reader = Reader.load(world / "models/mistral", "float32", None, torch.device("cpu"))
    copy, alone = all_arms()["label_copy"], all_arms()["no_message"]
    task = {"labels": ["red", "blue", "green stone"], "query": "Colour:", "answer": " {label}"}
    setup = Setup(copy.declaration.settings.model_validate({"layer": 1}), task, reader, 32)
    items = Items([Row(0, "warm", "red", 0)], [0], None, None, None)
    labels = answers_of(setup).label_ids()

    def sent(arm: Arm) -> Any:
        return lambda indices: _messages(arm, setup, items.batch(indices), "text")

    def said(code: int) -> Any:
        sends = replace(copy, message=lambda s, b: [torch.tensor([code], dtype=torch.uint8)])
        return _ask(sends, setup, items, [0], labels, sent(sends), 4, None)[0]

    for label, text in enumerate([" red", " blue", " green stone"]):
        named = said(label + 1)
        assert max(range(3), key=named.label_logprobs.__getitem__) == label
        assert (named.written, named.first_token) == (text, labels[label][0])
    (free,) = _ask(alone, setup, items, [0], labels, sent(alone), 4, None)
    nothing = said(0)
    assert nothing.label_logprobs == free.label_logprobs
    assert (nothing.written, nothing.first_token) == (free.written, free.first_token)
    assert copy.verdict is not None and copy.present is not None
    assert copy.verdict(setup, torch.empty(0, dtype=torch.uint8)) is None
    bridge = all_arms()["bridge"]
    soft = replace(setup, settings=bridge.declaration.settings.model_validate({"layer": 1}))
    assert bridge.present is not None
    without = bridge.present(soft, torch.empty(0, reader.width), Seen(None, {}))
    coded = copy.present(setup, torch.zeros(1, dtype=torch.uint8), Seen(None, {}))
    assert [token for part in without for token in part] == [*coded[0]]


def test_more_labels_than_a_byte_can_name_are_refused() -> None:
    arm = all_arms()["label_copy"]
    setup = Setup(arm.declaration.settings.model_validate({"layer": 1}), {}, None, 32)
    assert arm.solve is not None
    with pytest.raises(DataError, match="255 labels at most"):
        arm.solve(setup, Batch([]), [], 256)
