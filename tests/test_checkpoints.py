"""When checkpoints are written, what they share with an epoch's weights, and what fewer cost."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from conftest import Project
from test_run import results

from lwspec.engine.job import Job
from lwspec.engine.runs.attempt import AttemptFolder
from lwspec.engine.runs.runfolder import Runs
from lwspec.kernels import attempt as attempts
from lwspec.kernels.attempt import Attempt, Clock, StopFlag

JOB = Job("fit-1", "fit", "bridge", {}, {}, ("epoch-001",), "bridge", {})


def checkpoints(project: Project) -> list[Path]:
    return sorted(project.runs.glob("fit-*/attempt-*/checkpoints/step-*"))


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    return Attempt(JOB, AttemptFolder(tmp_path), Runs(tmp_path), StopFlag(), 60.0)


def pass_time(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.monotonic() + seconds
    monkeypatch.setattr(attempts.time, "monotonic", lambda: now)


def write_one(attempt: Attempt, monkeypatch: pytest.MonkeyPatch, takes_s: float) -> None:
    pass_time(monkeypatch, takes_s)
    attempt.checkpoint_written(takes_s)


def test_a_cheap_checkpoint_is_written_after_every_epoch(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert attempt.checkpoint_due(epoch_ends=True)
    write_one(attempt, monkeypatch, 0.5)
    assert attempt.checkpoint_due(epoch_ends=True)
    assert not attempt.checkpoint_due()
    pass_time(monkeypatch, 121)
    assert attempt.checkpoint_due()


def test_dear_checkpoints_take_a_twentieth_of_the_time(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_one(attempt, monkeypatch, 10)
    pass_time(monkeypatch, 199)
    assert not attempt.checkpoint_due()
    assert not attempt.checkpoint_due(epoch_ends=True)
    pass_time(monkeypatch, 2)
    assert attempt.checkpoint_due()
    assert attempt.checkpoint_due(epoch_ends=True)
    attempt.clock = Clock(jobs=5)  # each of which writes its own
    assert not attempt.checkpoint_due()
    pass_time(monkeypatch, 4 * 200)
    assert attempt.checkpoint_due()


def test_an_epoch_stores_its_weights_once(project: Project) -> None:
    project.keep("main")
    project.run("submit", "small.toml", "--yes")
    assert len(checkpoints(project)) == 2 * 2  # seeds, epochs
    for place in checkpoints(project):
        weights = list((place.parent.parent / "weights").glob("*.safetensors"))
        shared = place / "module.safetensors"
        assert any(shared.samefile(file) for file in weights)


def test_epochs_without_a_checkpoint_are_trained_again_and_not_recorded_again(
    project: Project, tmp_path_factory: pytest.TempPathFactory, world: Path
) -> None:
    whole = Project(tmp_path_factory.mktemp("whole"), world)
    for each in (whole, project):
        each.keep("main")
        each.change("seeds = [1, 2]", "seeds = [1]")
    whole.change("epochs = 2", "epochs = 3")
    whole.run("submit", "small.toml", "--yes")
    project.run("submit", "small.toml", "--yes")
    first, second = checkpoints(project)
    shutil.rmtree(second)
    project.change("epochs = 2", "epochs = 3")
    project.run("submit", "small.toml", "--yes")
    kept = first.parent.parent.parent / "taken"
    assert '"attempt": 1' in (kept / "epoch-002.json").read_text()
    assert '"attempt": 2' in (kept / "epoch-003.json").read_text()
    assert set(results(whole).items()) <= set(results(project).items())
