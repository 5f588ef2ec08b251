"""Arms with memory tokens, from a spec to their records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import Project
from safetensors.torch import load_file
from test_memory import ARMS
from torch import Tensor

SPEC = """
[[experiment]]
name = "main"
arms = ["icae", "xcompressor", "gist", "gist_positive", "gist_negative"]
receiver = "llama"
seeds = [1]
icae = { tokens = 2, rank = 2 }
xcompressor = { tokens = 2, rank = 2 }
gist = { tokens = 2, rank = 2 }
gist_positive = { tokens = 2, rank = 2 }
gist_negative = { rank = 2 }

[[table]]
name = "main"
experiments = ["main"]
"""


@pytest.fixture
def two(tmp_path: Path, world: Path) -> list[Project]:
    """Two projects of these arms and nothing else."""
    made = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        project = Project(tmp_path / name, world)
        project.write(project.spec.read_text().split("[[experiment]]")[0] + SPEC)
        made.append(project)
    return made


def fitted(project: Project) -> dict[str, dict[str, Tensor]]:
    """Each arm's weights after its second epoch."""
    return {
        json.loads((path / "job.json").read_text())["settings"]["arm"]: load_file(
            next(path.glob("attempt-*/weights/epoch-002.safetensors"))
        )
        for path in project.runs.glob("fit-*")
    }


def test_they_run_from_a_spec_and_go_on_bit_by_bit(two: list[Project]) -> None:
    straight, resumed = two
    straight.run("submit", "small.toml", "--yes")
    resumed.change("epochs = 2", "epochs = 1")
    resumed.run("submit", "small.toml", "--yes")
    resumed.change("epochs = 1", "epochs = 2")
    resumed.run("submit", "small.toml", "--yes")
    one, other = fitted(straight), fitted(resumed)
    assert set(one) == set(ARMS)
    for arm, weights in one.items():
        assert not any("embed_tokens" in name for name in weights)
        for name, weight in weights.items():
            assert torch.equal(weight, other[arm][name]), (arm, name)
    sizes = {}
    for path in straight.runs.glob("evaluate-*/attempt-1/evaluation.json"):
        record = json.loads(path.read_text())
        sizes[record["arm"]] = record["metrics"].get("message_bytes")
    llama = {"icae": 2 * 32 * 2, "xcompressor": 3 * 2 * 2 * 16 * 2, "gist": 3 * 2 * 2 * 16 * 2}
    assert sizes == {"gist_positive": None, "gist_negative": None, **llama}


@pytest.mark.parametrize("arm", ["xcompressor", "gist"])
def test_keys_and_values_between_two_models_are_refused(arm: str, project: Project) -> None:
    project.keep("direct")
    project.change('"no_message"]', f'"no_message", "{arm}"]')
    assert f"{arm} needs one model" in project.run("plan", "small.toml", status=2).stderr
