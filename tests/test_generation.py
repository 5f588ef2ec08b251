"""Tasks whose answer is free text: learnt, written, compared, recorded."""

from __future__ import annotations

import json

import pytest
from conftest import Project
from pyarrow import parquet

from lwspec.kernels.measuring.metrics import (
    entities,
    entity_recall,
    mean_where_defined,
    text_scores,
)
from lwspec.report.numbers import _columns

TASK = """
[tasks.echo]
kind = "generation"
data = { path = "json", data_files = { train = "data/train.jsonl", test = "data/test.jsonl" } }
splits = { train = "train", validation = { from = "train", rows = 8 }, test = "test" }
context = "{text}"
target = "{text}"
sender_prompt = "Text: {context}\\nKeywords:"
receiver_prompt = "Text: {context}\\nKeywords:"
query = "Keywords:"
max_prompt_tokens = 40
max_new_tokens = 9

[defaults]"""


@pytest.fixture
def generating(project: Project) -> Project:
    project.keep("direct", "relay", "main")
    project.change("[defaults]", TASK.lstrip())
    project.change('tasks = ["colour"]', 'tasks = ["echo"]')
    project.change("seeds = [1, 2]", "seeds = [1]")
    project.change("epochs = 2", 'epochs = 2, checkpoint = "best"')
    project.change('name = "main"\nexperiments', 'name = "main"\nmetric = "rougeL"\nexperiments')
    return project


def test_free_text_from_spec_to_table(generating: Project) -> None:
    generating.run("plan", "small.toml")
    generating.run("submit")
    done = generating.run("report", "small.toml", "--paper", "paper", "--strict")
    assert "gap" not in done.stdout
    table = (generating.folder / "paper/tables/main.tex").read_text()
    seen = set()
    for path in generating.runs.glob("evaluate-*/attempt-1"):
        record = json.loads((path / "evaluation.json").read_text())
        seen.add(record["arm"])
        rows = parquet.read_table(path / "predictions/test.parquet").to_pylist()
        assert len(rows) == record["n"] == 30
        again = text_scores([row["written"] for row in rows], [[row["target"]] for row in rows])
        for name, scores in again.items():
            assert record["metrics"].get(name) == pytest.approx(mean_where_defined(scores))
            assert [row.get(name) for row in rows] == scores
        assert f"{100 * (mean_where_defined(again['rougeL']) or 0):.1f}" in table
    assert seen == {
        "bridge",
        "text_relay",
        "sender_direct",
        "receiver_direct",
        "truncated",
        "no_message",
    }


def test_a_target_is_learnt_to_its_limit(generating: Project) -> None:
    """Twelve epochs on a few rows: the loss falls, and the best epoch is the one that is tested."""
    generating.keep("main")
    generating.change("epochs = 2", "epochs = 12")
    generating.run("submit", "small.toml", "--yes")
    (fit,) = generating.runs.glob("fit-*")
    epochs = [json.loads(path.read_text()) for path in sorted((fit / "taken").glob("*.json"))]
    losses = [epoch["metrics"]["train_loss"] for epoch in epochs]
    assert losses[-1] < losses[0]
    scores = [epoch["metrics"]["validation_rougeL"] for epoch in epochs]
    (path,) = generating.runs.glob("evaluate-*/attempt-1/evaluation.json")
    assert json.loads(path.read_text())["checkpoint"]["epoch"] == 1 + scores.index(max(scores))


@pytest.mark.parametrize(
    ("old", "new", "what", "nearest"),
    [
        ('target = "{text}"', 'targt = "{text}"', "unknown key 'targt'", "target"),
        ('target = "{text}"', 'target = "text"', "column", None),
        (
            'target = "{text}"',
            'target = "{text}"\nlabels = ["a", "b"]',
            "unknown key 'labels'",
            None,
        ),
        ('kind = "generation"', 'kind = "generating"', "generation", None),
        ('arms = ["bridge"]', 'arms = ["linear_probe"]', "has no free answer", None),
    ],
)
def test_what_does_not_fit_free_text(
    generating: Project, old: str, new: str, what: str, nearest: str | None
) -> None:
    generating.change(old, new)
    if "linear_probe" in new:
        generating.change("bridge = {", "linear_probe = {")
        generating.change(", latents = 4, width = 16, depth = 1, heads = 2", "")
    done = generating.run("plan", "small.toml", status=2)
    assert what in done.stderr
    assert "small.toml:" in done.stderr
    assert nearest is None or f"did you mean: {nearest}" in done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The United Nations met in New York.", {("united", "nations"), ("new", "york")}),
        ("Ann spoke. Nobody in Ely heard Ann Lee's words.", {("ely",), ("ann", "lee")}),
        ("It fell by 3.5% to 1,200 at 10:30.", {("3.5",), ("1200",), ("10:30",)}),
        ('He left. "But why?" asked Ann, (and Bob Lee).', {("ann",), ("bob", "lee")}),
        ("one red stone", set()),
    ],
)
def test_entities_are_numbers_and_capitalised_runs(text: str, expected: set[object]) -> None:
    assert entities(text) == expected


def test_entity_recall_is_the_share_that_was_written() -> None:
    target = "In 2019 the mayor of New York met Ann Lee."
    assert entity_recall("ann lee was mayor in new york, 2019", [target]) == 1.0
    assert entity_recall("New roads in York; Ann saw Lee in 2019.", [target]) == pytest.approx(
        1 / 3
    )
    assert entity_recall("12019", [target]) == 0.0
    assert entity_recall("Ann Lee", [target, "we saw Ann Lee", "nobody"]) == 1.0
    assert entity_recall("Ann Lee", ["nobody"]) is None


def test_rows_without_entities_are_left_out(generating: Project) -> None:
    """Half of the targets name a number; the mean, its items and its interval are over these."""
    generating.keep("direct")
    for split in ("train", "test"):
        path = generating.folder / f"data/{split}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for place, row in enumerate(rows):
            row["text"] += f" {place}" if place % 2 else ""
        generating.change(f"data/{split}.jsonl", f"numbered-{split}.jsonl")
        (generating.folder / f"numbered-{split}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows)
        )
    generating.change('metric = "rougeL"', 'metric = ["rougeL", "entity_recall"]')
    generating.run("submit", "small.toml", "--yes")
    generating.run("report", "small.toml", "--paper", "paper", "--strict")
    assert (
        "over the items whose target holds any"
        in (generating.folder / "paper/results.md").read_text()
    )
    paths = list(generating.runs.glob("evaluate-*/attempt-1/predictions/test.parquet"))
    assert len(paths) == 4
    for path in paths:
        rows = parquet.read_table(path).to_pylist()
        scored = [row for row in rows if row["entity_recall"] is not None]
        assert [row["item"] for row in scored] == [
            row["item"] for row in rows if any(map(str.isdigit, row["target"]))
        ]
        assert 0 < len(scored) < len(rows)
        names, scores = _columns(path, "entity_recall") or ((), [])
        assert list(names) == [row["item"] for row in scored]
        record = json.loads((path.parent.parent / "evaluation.json").read_text())
        assert record["metrics"]["entity_recall"] == pytest.approx(sum(scores) / len(scored))
