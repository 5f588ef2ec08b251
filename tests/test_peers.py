"""Peers' methods from a spec: planned, fitted, tested, and their messages as long as declared."""

from __future__ import annotations

import json
from typing import Any

from conftest import Project

EXPERIMENT = """
[[experiment]]
name = "peers"
arms = ["link", "graft", "interlat", "vector_translation"]
link = { layer = 2, tokens = 2, anchors = 90 }
graft = { layer = 2, into = 1 }
interlat = { layer = 2, tokens = 2 }
vector_translation = { layer = 2 }
train = { samples = 48, epochs = 1, batch_size = 8, distillation = 2.0 }
evaluate = { max_bytes = 96, precision = "bfloat16" }
seeds = [3, 4]

[[experiment]]
name = "moved"
arms = ["cross_lora"]
cross_lora = { rank = 2, batch_size = 8 }
seeds = [3, 4]

[[table]]"""

BYTES = {"link": 2 * 24 * 2, "graft": 24 * 2, "interlat": 2 * 24 * 2, "vector_translation": 24 * 2}


def records(project: Project) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for path in project.runs.glob("evaluate-*/attempt-1/evaluation.json"):
        record = json.loads(path.read_text())
        found.setdefault(record["arm"], []).append(record)
    return found


def test_peers_run_from_a_spec(project: Project) -> None:
    project.keep("probe")
    project.change("[[table]]", EXPERIMENT.lstrip())
    project.change('experiments = ["probe"]', 'experiments = ["peers", "moved"]')
    project.run("submit", "small.toml", "--yes", "--only", "evaluate")
    project.run("report", "small.toml", "--paper", "paper", "--strict")
    found = records(project)
    assert len(found["cross_lora"]) == 2
    for arm, size in BYTES.items():
        assert len(found[arm]) == (1 if arm == "graft" else 2)
        assert {record["metrics"]["message_bytes"] for record in found[arm]} == {size}
