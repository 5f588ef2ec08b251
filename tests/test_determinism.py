"""The same job on the same machine, twice: the same bytes, or a record that says it may differ."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from conftest import Project
from repeated import differing, repeated

from lwspec.engine.runs.jsonfile import read_json
from lwspec.kernels.arms import all_arms
from lwspec.kernels.attempt import Attempt, Clock, StopFlag
from lwspec.report.evidence import attempt_lines

FEW = """\
[[experiment]]
name = "few"
arms = ["bridge", "linear_probe", "text_relay"]
bridge = { layer = 1, latents = 4, width = 16, depth = 1, heads = 2 }
linear_probe = { layer = 1, folds = 2, inverse_penalties = [0.1, 1.0] }
text_relay = { prompt = "Text: {context}\\nKeywords:", max_new_tokens = 6 }
"""

EVERY = """\
[[experiment]]
name = "private"
arms = [
    "bridge", "byte_bridge", "link", "graft", "interlat", "vector_translation", "c2c_private",
    "random_map", "ridge_map", "linear_probe", "label_copy", "no_message",
]
bridge = { layer = 1, latents = 4, width = 16, depth = 1, heads = 2 }
byte_bridge = { width = 16, depth = 1, heads = 2 }
link = { layer = 2, tokens = 2, anchors = 90 }
graft = { layer = 2, into = 1 }
interlat = { layer = 2, tokens = 2 }
vector_translation = { layer = 2 }
c2c_private = { width = 8, anneal_steps = 2 }
random_map = { layer = 1 }
ridge_map = { layer = 1 }
linear_probe = { layer = 1, folds = 2, inverse_penalties = [0.1, 1.0] }
label_copy = { layer = 1, folds = 2, inverse_penalties = [0.1, 1.0] }
train = { distillation = 2.0 }

[[experiment]]
name = "text"
arms = [
    "text_relay", "truncated", "perplexity_pruning", "few_shot", "prompt_tuning", "lora",
    "sender_direct", "receiver_direct", "c2c", "cross_lora",
]
text_relay = { prompt = "Text: {context}\\nKeywords:", max_new_tokens = 6 }
few_shot = { max_prompt_tokens = 100 }
prompt_tuning = { text = true }
lora = { rank = 2 }
c2c = { width = 8, anneal_steps = 2 }
cross_lora = { rank = 2, batch_size = 8 }

[[experiment]]
name = "same"
arms = ["icae", "xcompressor", "gist", "gist_positive", "gist_negative", "kvcomm", "latentmas"]
receiver = "llama"
icae = { tokens = 2, rank = 2 }
xcompressor = { tokens = 2, rank = 2 }
gist = { tokens = 2, rank = 2 }
gist_positive = { tokens = 2, rank = 2 }
gist_negative = { rank = 2 }
kvcomm = { ratio = 0.5, alpha = 0.8 }
latentmas = { steps = 2, realign = "ridge" }

[[experiment]]
name = "controls"
arms = ["bridge"]
controls = ["other_item", "mean", "gaussian", "rotation", "random_sender", "permuted_labels"]
bridge = { layer = 1, latents = 4, width = 16, depth = 1, heads = 2 }
"""

NEEDS_A_DOWNLOAD = {"llmlingua"}


def evidence(project: Project, kind: str) -> dict[str, object]:
    path = next(project.runs.glob(f"{kind}-*/attempt-1/started.json"))
    found: dict[str, object] = read_json(path)["evidence"]
    return found


def test_a_plan_run_twice_makes_the_same_bytes(tmp_path: Path, world: Path) -> None:
    (project, _), (one, other) = repeated(tmp_path, world, FEW)
    assert differing(one, other) == []
    kinds = {Path(file).parts[0] for _, _, file in one}
    assert {"rows", "states", "weights", "predictions"} <= kinds
    assert evidence(project, "fit")["deterministic"] is True
    assert "repeats   to the bit" in project.run("why", "fit bridge colour s1").stdout


@pytest.mark.parametrize(
    ("kind", "compiled", "jobs", "why"),
    [
        ("fit", False, 1, None),
        ("fit", True, 1, "recorded passes"),
        ("fit", False, 3, "2 other fits"),
        ("evaluate", True, 1, "recorded passes"),
        ("latency", False, 1, "measures time"),
    ],
)
def test_an_attempt_knows_what_its_numbers_vary_with(
    kind: str, compiled: bool, jobs: int, why: str | None
) -> None:
    job, nowhere = SimpleNamespace(kind=kind, compiled=compiled), cast("Any", None)
    attempt = Attempt(cast("Any", job), nowhere, nowhere, StopFlag(), 1.0, clock=Clock(jobs))
    assert (attempt.varies is None) if why is None else (why in str(attempt.varies))


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        ({"deterministic": True, "varies": None}, "to the bit"),
        ({"deterministic": False, "varies": "it measures time"}, "to a few digits: it measures"),
        ({}, None),
    ],
)
def test_why_says_whether_an_attempt_repeats(recorded: dict[str, Any], said: str | None) -> None:
    row = dict.fromkeys("command git_sha dirty hardware host wall_s peak_bytes".split())
    line = dict(attempt_lines({**row, "evidence": recorded})).get("repeats")
    assert line is None if said is None else str(line).startswith(said)


@pytest.mark.every_arm
def test_every_arm_twice_makes_the_same_bytes(tmp_path: Path, world: Path) -> None:
    named = set(re.findall(r'"(\w+)"', " ".join(re.findall(r"arms = \[.*?\]", EVERY, re.S))))
    assert named | NEEDS_A_DOWNLOAD == set(all_arms())
    _, (one, other) = repeated(tmp_path, world, EVERY)
    assert differing(one, other) == []
    controlled = 1 + 6  # the bridge there is fitted without distillation
    tested = [key for key in one if key[2].startswith("predictions/")]
    assert len(tested) == len(named) + controlled


@pytest.mark.every_arm
def test_what_rounds_by_its_company_says_so(tmp_path: Path, world: Path) -> None:
    """Fits side by side: the same bytes here, but not were one of them to run alone."""
    beside = [("seeds = [1]", "seeds = [1, 2]"), ("threads = 1", "threads = 1\nside_by_side = 2")]
    experiments = FEW.replace('"bridge", "linear_probe", "text_relay"', '"bridge"')
    experiments = "\n".join(experiments.splitlines()[:4]) + "\n"
    (project, _), (one, other) = repeated(tmp_path, world, experiments, beside)
    assert differing(one, other) == []
    fit = evidence(project, "fit")
    assert fit["deterministic"] is False
    said = "repeats   to a few digits: its sums were made in passes that 1 other fit shared"
    assert said in project.run("why", "fit bridge colour s1").stdout
    assert evidence(project, "evaluate")["deterministic"] is True
