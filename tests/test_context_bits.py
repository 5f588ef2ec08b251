"""What a message tells the frozen receiver of the context, in bits."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Project
from pyarrow import parquet
from test_expand import expansion

from lwspec.engine.spec.resolve import tells_bits
from lwspec.kernels.arm import Setup
from lwspec.kernels.arms import all_arms
from lwspec.kernels.data.rows import Row
from lwspec.kernels.measuring.bits import context_bits
from lwspec.kernels.message import Prompt
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.setup import present_rows

TASK = {"query": "Colour:", "receiver_prompt": "Text: {context}\nColour:", "max_prompt_tokens": 40}
ROWS = [
    Row(place, text, "red", 0)
    for place, text in enumerate(["red blue river", "dark", "", "cold green stone quick warm slow"])
]


@pytest.fixture(scope="module")
def reader(world: Path) -> Reader:
    return Reader.load(world / "models/mistral", "float32", None, torch.device("cpu"))


def setup(reader: Reader, *reads: str) -> Setup:
    bridge = all_arms()["bridge"].declaration.settings(layer=1)
    return Setup(bridge, {name: TASK[name] for name in reads}, reader, 32)


def bits(arm: str, given: Setup, messages: list[Any], most: int = 4) -> list[float | None]:
    prompts = present_rows(all_arms()[arm], given, messages, ROWS)
    return context_bits(all_arms()[arm], given, prompts, ROWS, most, 2)


def plainly(reader: Reader, prompt: Prompt, tokens: list[int]) -> float:
    """Bits of tokens behind a prompt, one token at a time."""
    parts = [p if isinstance(p, torch.Tensor) else reader.embed(p) for p in prompt]  # type: ignore[arg-type]
    total = 0.0
    for token in tokens:
        with torch.no_grad():
            logits = reader.model(inputs_embeds=torch.cat(parts)[None]).logits[0, -1]
        total -= float(logits.log_softmax(-1)[token]) / math.log(2)
        parts.append(reader.embed([token]))
    return total


def test_bits_are_those_of_the_contexts_tokens_one_by_one(reader: Reader) -> None:
    torch.manual_seed(0)
    messages = [torch.randn(3, reader.width) for _ in ROWS]
    given = setup(reader, "query")
    found = bits("bridge", given, messages)
    prompts = present_rows(all_arms()["bridge"], given, messages, ROWS)
    query = [reader.encode("Colour:")]
    for row, prompt, told in zip(ROWS, prompts, found, strict=True):
        tokens = reader.encode(row.context)[1:][:4]
        if not tokens:
            assert told is None
            continue
        expected = plainly(reader, query, tokens) - plainly(reader, prompt, tokens)
        assert told == pytest.approx(expected, abs=1e-4)
    assert len({told for told in found if told}) == 3


def test_an_empty_message_tells_nothing(reader: Reader) -> None:
    given = setup(reader, "query")
    for told in bits("bridge", given, [torch.zeros(0, reader.width) for _ in ROWS]):
        assert told is None or told == pytest.approx(0.0, abs=1e-4)
    text = setup(reader, "receiver_prompt", "max_prompt_tokens")
    for told in bits("text_relay", text, ["" for _ in ROWS]):
        assert told is None or told == pytest.approx(0.0, abs=1e-4)
    assert any(abs(told or 0) > 1e-3 for told in bits("text_relay", text, ["red" for _ in ROWS]))


def test_a_code_that_the_receiver_never_reads_is_not_measured() -> None:
    arms = {name: arm.declaration for name, arm in all_arms().items()}
    assert tells_bits(arms["bridge"])
    assert not tells_bits(arms["label_copy"])


def test_only_what_is_measured_has_another_identity(project: Project) -> None:
    before = expansion(project).jobs
    project.change("[defaults]", "[defaults]\nevaluate = { bits = 5 }")
    after = expansion(project).jobs
    new = {(job.kind, job.step) for job in after.values() if job.id not in before}
    assert new == {("evaluate", arm) for arm in ("bridge", "truncated", "text_relay")}
    assert all(after[id].settings["bits"] == 5 for id in set(after) - set(before))


def test_bits_from_spec_to_table(project: Project) -> None:
    project.keep("direct", "main")
    metrics = '["accuracy", "context_bits"]'
    project.change('name = "main"\nexp', f'name = "main"\nmetric = {metrics}\nexp')
    said = project.run("plan", "small.toml", status=2).stderr
    assert "context_bits is recorded by no experiment of table 'main'" in said
    project.change("[defaults]", "[defaults]\nevaluate = { bits = 5 }")
    project.run("submit", "small.toml", "--yes")
    project.run("report", "small.toml", "--paper", "paper", "--strict")
    text = (project.folder / "paper/results.md").read_text()
    assert "first 5 tokens of the context" in text
    assert "context bits: in bits an item" in text
    measured = set()
    for path in project.runs.glob("evaluate-*/attempt-1"):
        record = json.loads((path / "evaluation.json").read_text())
        rows = parquet.read_table(path / "predictions/test.parquet").to_pylist()
        if "context_bits" in record["metrics"]:
            measured.add(record["arm"])
            told = [row["context_bits"] for row in rows]
            assert record["metrics"]["context_bits"] == pytest.approx(sum(told) / len(told))
            assert len(set(told)) > 1
    assert measured == {"bridge", "truncated"}
    row = next(line for line in text.splitlines() if line.startswith("| no_message |"))
    assert "| n/a |" in row
