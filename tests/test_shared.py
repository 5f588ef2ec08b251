"""Real data and a trained pair, where they lie beside the project: is the scoring right?"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, ROOT, SHARED

pytestmark = pytest.mark.skipif(
    not (SHARED / "models/tiny-llama").exists(),
    reason="no trained pair and data sets in ../shared beside the project",
)

KNOWN = {
    "sender_direct trec": 85.0,
    "receiver_direct trec": 88.0,
    "truncated trec": 83.4,
    "text_relay trec": 85.3,
    "sender_direct sst2": 78.1,
    "receiver_direct sst2": 77.4,
    "truncated sst2": 68.5,
    "text_relay sst2": 68.3,
}
"""Measured when the pair was trained, by label log-probability; relay on 400 of the items."""


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    folder = tmp_path_factory.mktemp("tiny")
    shutil.copytree(ROOT / "specs/paper", folder / "paper")
    text = (ROOT / "specs/tiny.toml").read_text().replace("../../shared", str(SHARED))
    (folder / "tiny.toml").write_text(text)
    command = [sys.executable, "-m", "lwspec", "submit", "tiny.toml", "--yes", "--only"]
    for labels in ("evaluate [srt]*_direct [st][sr]*", "evaluate t* [st][sr]*"):
        subprocess.run(
            [*command, labels],
            cwd=folder,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=ENVIRONMENT,
        )
    found = {}
    for path in Path(folder / "runs").glob("evaluate-*/attempt-1/evaluation.json"):
        record = json.loads(path.read_text())
        found[f"{record['arm']} {record['task']}"] = 100 * record["metrics"]["accuracy"]
    return found


@pytest.mark.parametrize("name", KNOWN)
def test_full_test_splits_score_what_they_are_known_to(name: str, scores: dict[str, float]) -> None:
    within = 3.0 if "relay" in name else 0.5
    assert scores[name] == pytest.approx(KNOWN[name], abs=within)
