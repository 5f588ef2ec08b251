"""The plans that ship, and what a plan says of groups, shares and experiments that do not run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import ENVIRONMENT, ROOT, Project

REVIEWERS = {
    "main": 15,
    "probe": 2,
    "direct": 4,
    "latency": 2,
    "ablation": 10,
    "pair": 5,
    "curve": 7,
    "generation": 6,
}
"""GPU-hours that the reviewers allotted; 7 of the 51 are buffer, in which the curve is run."""


@pytest.fixture
def final(project: Project) -> dict[str, Any]:
    spec = str(ROOT / "specs/final.toml")
    return json.loads(project.run("plan", spec, "--json").stdout)


def test_the_whole_plan_is_priced_beside_what_was_allotted(final: dict[str, Any]) -> None:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in final["experiments"]:
        groups.setdefault(row["group"], []).append(row)
    allotted = {
        name: sum(row["declared_hours"] or 0 for row in rows) for name, rows in groups.items()
    }
    assert {name: hours for name, hours in allotted.items() if hours} == REVIEWERS
    assert final["allotted_hours"] == final["budget_hours"] == 51
    assert all(row["plan_only"] for row in groups["scale"])
    runnable = [row for row in final["experiments"] if not row["plan_only"]]
    assert final["p50_hours"] == pytest.approx(sum(row["p50_hours"] for row in runnable))
    assert 0 < final["p50_hours"] < final["p90_hours"] < 51
    for name in REVIEWERS:
        assert sum(row["jobs"] for row in groups[name]) > 0
        assert sum(row["p50_hours"] for row in groups[name]) > 0


def test_the_whole_plan_trains_what_the_reviewers_asked_for(final: dict[str, Any]) -> None:
    jobs = {(job["kind"], job["label"]): job for job in final["jobs"]}
    for task in ("sst2", "agnews", "trec"):
        for seed in (42, 123, 456, 789, 1337):
            epochs = jobs["fit", f"bridge {task} s{seed}"]["owed"]
            assert len(epochs) == (12 if seed in (42, 123, 456) else 6)
    sweep = [jobs["fit", f"bridge agnews bridge.latents={m} s42"] for m in (2, 4, 16, 32)]
    assert len({job["id"] for job in sweep}) == 4
    layers = [label for kind, label in jobs if kind == "fit" and "linear_probe.layer=" in label]
    assert len(layers) == 3 * 32  # layer 16 is the probe of the main table
    assert len(jobs) == len(final["jobs"])


def test_the_probe_costs_no_gpu(final: dict[str, Any]) -> None:
    for job in final["jobs"]:
        if job["step"] == "linear_probe":
            assert job["price"] == {"p50_hours": 0.0, "p90_hours": 0.0, "source": "modelled"}


@pytest.mark.parametrize("name", ["quickstart", "final"])
def test_plans_need_no_network_and_no_gpu(project: Project, name: str) -> None:
    done = project.run("plan", str(ROOT / f"specs/{name}.toml"))
    assert "next" in done.stdout


MORE = """
[[experiment]]
name = "later"
group = "more"
plan_only = true
arms = ["bridge"]
bridge = { layer = 1, latents = 4, width = 16, depth = 1, heads = 2 }
seeds = [1, 3]
train = { samples = 48, epochs = 9 }

[[experiment]]
name = "twin"
group = "more"
arms = ["bridge"]
bridge = { layer = 1, latents = 4, width = 16, depth = 1, heads = 2 }

[[table]]"""


def test_a_copied_folder_goes_on_with_its_own_spec(project: Project) -> None:
    project.run("plan", "small.toml")
    copy = project.folder / "copy"
    copy.mkdir()
    for name in ("small.toml", "paper.tex", "runs", "models", "data"):
        subprocess.run(["cp", "-a", project.folder / name, copy / name], check=True)
    done = subprocess.run(
        project.command("status"), cwd=copy, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.stdout.startswith("spec small.toml, planned last here")


def test_what_is_only_planned_is_priced_and_not_run(project: Project) -> None:
    project.keep("main")
    project.change("[[table]]", MORE.lstrip())
    plan = json.loads(project.run("plan", "small.toml", "--json").stdout)
    rows = {row["experiment"]: row for row in plan["experiments"]}
    assert rows["twin"]["jobs"] == rows["twin"]["to_run"] == 0
    assert rows["later"]["p50_hours"] > 0
    assert plan["p50_hours"] == pytest.approx(rows["main"]["p50_hours"])
    fits = [job for job in plan["jobs"] if job["kind"] == "fit" and job["label"].endswith("s1")]
    assert [job["owed"] for job in fits] == [["epoch-001", "epoch-002"]]
    shown = project.run("plan", "small.toml").stdout
    assert "shared, see above" in shown and "modelled, plan only" in shown
    assert "plan only: 3 jobs" in shown
    assert plan["left_hours"] < plan["unspent_hours"]
    project.run("submit", "--only", "bridge colour s*")
    assert len(list(project.runs.glob("fit-*"))) == 2
    assert not list(project.runs.glob("fit-*/taken/epoch-003.json"))
    done = project.run("plan", "small.toml")
    assert "everything is done" in done.stdout
    project.change('experiments = ["main"]\ncaption', 'experiments = ["main", "later"]\ncaption')
    done = project.run("report", "small.toml", "--strict")
    assert "gap" not in done.stdout
    assert "plan only" in (project.folder / "paper/results.md").read_text()
    assert "later (plan only)" in project.run("status", "small.toml").stdout


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("latents = 4", "latents = 128", "context of the receiver 'mistral' is 128"),
        ("layer = 1, latents", "layer = 4, latents", "the sender 'llama' has 3"),
        ('"Text: {context}\\nKeywords:"', '"{context} {wrd}"', "no prompt of the task 'colour'"),
        ('labels = ["red", "blue", "green stone"]', 'labels = ["red"]', "at least 2"),
        ("epochs = 2", "epochs = 2, epoch_weight = 1", "epoch_weight"),
        ('query = "Colour:"', 'query = "Colour {text}:"', "every column of the context"),
        (
            'receiver_prompt = "Text: {context}',
            'receiver_prompt = "Text: {text} {context}',
            "every column of the context",
        ),
        ('query = "Colour:"', 'query = "Colour {label}:"', "the column of the answer"),
        ('kind = "learning_curves"', 'kind = "sweep"', "one numeric setting as its axis"),
        ('caption = "Learning."', 'path = "figures/a.tex"', "ends in .pdf"),
        (
            'caption = "Accuracy',
            'metric = "acuracy"\ncaption = "Accuracy',
            "there is no metric 'acuracy'\n  did you mean: accuracy",
        ),
        (
            'caption = "Accuracy',
            'metric = "total_ms"\ncaption = "Accuracy',
            "recorded by no experiment of table 'main'",
        ),
        ("samples = 48", "samples = { maximum = 48 }", "unknown key 'maximum'"),
        (
            'name = "relay"',
            'name = "relay"\nsweep = { "latency.batch_size" = [1, 2] }',
            "to time it",
        ),
        (
            'data = { path = "json"',
            'data = { adapter = "squat", path = "json"',
            "did you mean: squad",
        ),
    ],
)
def test_what_no_run_could_honour_is_refused_by_the_plan(
    project: Project, old: str, new: str, what: str
) -> None:
    project.change(old, new)
    done = project.run("plan", "small.toml", status=2)
    assert what in done.stderr
    assert "small.toml:" in done.stderr
    assert not project.runs.exists()


def test_swept_values_are_checked_beside_each_other(project: Project) -> None:
    project.keep("main")
    project.change("width = 16, depth = 1, heads = 2 }", "depth = 1 }")
    project.change("[[table]]", "[[table]]")
    sweep = 'sweep = { "bridge.width" = [16, 20], "bridge.heads" = [4, 8] }\n\n[[table]]'
    project.change("[[table]]", sweep)
    done = project.run("plan", "small.toml", status=2)
    assert "width 20 is no multiple of heads 8" in done.stderr
    project.change("[4, 8]", "[2, 4]")
    project.run("plan", "small.toml")


@pytest.fixture
def families(project: Project, world: Path) -> Project:
    """The small plan with a Qwen that reads and a GPT-2 that answers."""
    project.keep("main", "relay")
    project.change('path = "models/llama"', 'path = "models/qwen"')
    project.change('path = "models/mistral"', 'path = "models/gpt"')
    project.change("seeds = [1, 2]", "seeds = [1]")
    project.change("epochs = 2", "epochs = 1")
    return project


def test_other_families_run_from_a_spec_and_in_both_directions(families: Project) -> None:
    families.run("submit", "small.toml", "--yes")
    families.change('sender = "llama"', 'sender = "mistral"')
    families.change('receiver = "mistral"', 'receiver = "llama"')
    families.run("submit", "small.toml", "--yes")
    families.change('receiver = "llama"', 'receiver = "mistral"')
    families.run("submit", "small.toml", "--yes")
    pairs = set()
    for path in families.runs.glob("evaluate-*/attempt-1/evaluation.json"):
        record = json.loads(path.read_text())
        pairs.add((record["arm"], record["sender"], record["receiver"]))
    for arm in ("bridge", "text_relay"):
        found = {(sender, receiver) for name, sender, receiver in pairs if name == arm}
        assert found == {("llama", "mistral"), ("mistral", "llama"), ("mistral", "mistral")}
