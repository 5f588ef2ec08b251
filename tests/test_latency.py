"""Timing: parts that add up, as many tokens for every arm, and nothing untrained unmarked."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from conftest import Project

from lwspec.kernels.data.rows import Row
from lwspec.kernels.measuring.latency import batches, summary

LATENCY = """
[[experiment]]
name = "latency"
arms = ["bridge", "receiver_direct", "text_relay", "linear_probe"]
seeds = [1]
train = { epochs = 1 }
bridge = { layer = 1, latents = 4, width = 16, depth = 1, heads = 2 }
linear_probe = { layer = 1, folds = 2, inverse_penalties = [0.1, 1.0] }
text_relay = { prompt = "Text: {context}\\nKeywords:", max_new_tokens = 6 }
latency = { new_tokens = 5, repeats = 6, warmup = 2 }
sweep = { "latency.batch_size" = [1, 4] }

[[experiment]]
name = "untrained"
arms = ["bridge"]
seeds = [1]
bridge = { layer = 1, latents = 4, width = 16, depth = 1, heads = 2 }
latency = { new_tokens = 5, repeats = 4, warmup = 1, trained = false }

[[table]]"""


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory, world: Any) -> Project:
    project = Project(tmp_path_factory.mktemp("latency"), world)
    project.change("[[table]]", LATENCY.lstrip())
    project.keep("latency", "untrained")
    metrics = '"sender_ms", "adapter_ms", "prefill_ms", "decode_ms", "total_ms", "items_per_s"'
    project.change(
        'name = "main"\nexperiments', f'name = "main"\nmetric = [{metrics}]\nexperiments'
    )
    both = 'experiments = ["latency", "untrained"]'
    project.change(
        f'kind = "learning_curves"\n{both}',
        'kind = "sweep"\nmetric = "total_ms"\nexperiments = ["latency"]',
    )
    project.run("run", "small.toml", "--strict")
    return project


def records(project: Project) -> list[dict[str, Any]]:
    found = []
    for path in project.runs.glob("latency-*"):
        job = json.loads((path / "job.json").read_text())
        found.append({**job, **json.loads((path / "taken/result.json").read_text())})
    return found


def test_parts_add_up_to_the_whole(timed: Project) -> None:
    assert len(records(timed)) == 9
    for record in records(timed):
        metrics = record["metrics"]
        parts = sum(metrics[f"{part}_ms"] for part in ("sender", "adapter", "prefill", "decode"))
        assert metrics["parts_over_total"] == pytest.approx(parts / metrics["total_ms"])
        assert metrics["items_per_s"] > 0
        assert metrics["peak_mib"] > 10
        assert metrics["total_ms_p50"] <= metrics["total_ms_p95"]


def test_an_arm_takes_time_only_where_it_does_something(timed: Project) -> None:
    shares = {
        record["settings"]["arm"]: [
            record["metrics"][f"{part}_ms"] / record["metrics"]["total_ms"]
            for part in ("sender", "adapter", "prefill", "decode")
        ]
        for record in records(timed)
        if record["settings"]["latency"]["batch_size"] == 4
    }
    assert shares["receiver_direct"][0] < 0.05
    assert shares["linear_probe"][2] + shares["linear_probe"][3] < 0.05
    assert min(shares["bridge"]) > 0.005
    assert shares["text_relay"][0] > shares["bridge"][0]


def test_an_untrained_bridge_is_marked(timed: Project) -> None:
    table = (timed.folder / "paper/tables/main.tex").read_text()
    rows = re.findall(r"^(\w[^&]*) &", table, re.MULTILINE)
    assert [row for row in rows if "untrained" in row] == ["bridge (untrained)"]
    for record in records(timed):
        untrained = record["settings"]["arm"] == "bridge" and "fit" not in record["inputs"]
        assert record["facts"]["untrained"] is untrained
    assert "over 4 or 6 passes after warm-up" in table
    assert (timed.folder / "paper/figures/curves.pdf").exists()


def test_a_timing_runs_alone(timed: Project) -> None:
    spans = []
    for path in timed.runs.glob("*-*/attempt-1"):
        started = json.loads((path / "started.json").read_text())["started_at"]
        ended = json.loads((path / "exit.json").read_text())["ended_at"]
        spans.append((path.parent.name.startswith("latency"), started, ended))
    for alone, started, ended in spans:
        others = sum(a < ended and started < b for _, a, b in spans) - 1
        assert not alone or others == 0


def test_the_summary_of_known_times() -> None:
    parts = [[1.0, 2.0, 3.0, 4.0], [3.0, 2.0, 3.0, 4.0]]
    metrics = summary(parts, [10.0, 12.0], 4, 2**21)
    assert metrics["sender_ms"] == 2.0
    assert metrics["sender_ms_sd"] == pytest.approx(2**0.5)
    assert metrics["total_ms"] == 11.0
    assert metrics["total_ms_p95"] == pytest.approx(11.9)
    assert metrics["parts_over_total"] == 1.0
    assert metrics["items_per_s"] == pytest.approx(4000 / 11)
    assert metrics["peak_mib"] == 2.0


def test_batches_begin_again_after_the_end() -> None:
    rows = [Row(n, str(n), "", 0) for n in range(5)]
    made = batches(rows, 3)
    assert [[row.item for row in next(made)] for _ in range(4)] == [
        [0, 1, 2],
        [3, 4, 0],
        [1, 2, 3],
        [4, 0, 1],
    ]


def test_what_is_solved_in_one_step_cannot_be_timed_untrained(project: Project) -> None:
    project.change("[[table]]", LATENCY.lstrip())
    project.change(
        'name = "untrained"\narms = ["bridge"]', 'name = "untrained"\narms = ["ridge_map"]'
    )
    project.change(
        "bridge = { layer = 1, latents = 4, width = 16, depth = 1, heads = 2 }\nlatency",
        "ridge_map = { layer = 1 }\nlatency",
    )
    done = project.run("plan", "small.toml", status=2)
    assert "solved in one step" in done.stderr
