"""A few of the faults of `make test-faults`, and what it found, each by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from faults import commands, on_slurm, plans, schedule, truth
from faults.finished import Finished
from faults.inject import Fault
from faults.project import Project
from torch import nn

from lwspec.engine.plan.fingerprint import Fingerprints
from lwspec.errors import CheckpointError
from lwspec.kernels.training.checkpoint import (
    Progress,
    load_checkpoint,
    optimizer_tensors,
    save_checkpoint,
)

DAY_S = 86400.0


@pytest.fixture(scope="module", autouse=True)
def warmed() -> None:
    commands.warm()


@pytest.mark.parametrize("step", [9, 60, 90, 120])
def test_a_submission_goes_on_after_a_kill_and_an_error_at_a_step(step: int) -> None:
    outcome = plans.command_step(step)
    assert not outcome.problems, schedule.problems([outcome])
    assert outcome.struck["kill -9 of the command line at a step"] == 1


def test_a_job_goes_on_after_kills_and_errors_at_its_steps() -> None:
    outcome = plans.fit_step(17)
    assert not outcome.problems, schedule.problems([outcome])
    assert sum(outcome.struck.values()) == 4


def test_a_plan_completes_after_random_faults() -> None:
    outcome = plans.randomly(3)
    assert not outcome.problems, schedule.problems([outcome])
    assert sum(outcome.struck.values()) >= 2


def test_damaged_records_are_named_or_change_nothing() -> None:
    finished = Finished()
    outcomes = [finished.damaged(number) for number in range(4)]
    finished.project.remove()
    assert not schedule.problems(outcomes)
    assert all(sum(outcome.struck.values()) == 1 for outcome in outcomes)


def test_an_array_that_was_sent_and_not_recorded_is_not_sent_again() -> None:
    outcome = on_slurm.submission_step(106)
    assert not outcome.problems, schedule.problems([outcome])
    assert outcome.struck["kill -9 of the command line at a step"] == 1


def test_a_job_whose_log_cannot_be_opened_says_so_in_a_line() -> None:
    project = Project()
    ended = project.submit(Fault("job", "ENOSPC", step=1, process=1))
    assert ended.struck
    assert "local-1.log: No space left on device" in ended.printed
    truth.check(project)
    assert not project.problems
    project.remove()


def test_a_clock_that_is_set_spends_no_budget() -> None:
    project = Project()
    spec = project.folder / "small.toml"
    spec.write_text(spec.read_text().replace("gpu_hours = 1e6", "gpu_hours = 1.0"))
    ended = project.submit(Fault("job", "clock", step=5, process=2, shift_s=DAY_S))
    assert ended.struck and ended.status == 0
    project.remove()


def test_a_job_that_fails_is_not_tried_for_ever_where_the_clock_is_set_back() -> None:
    project = Project()
    spec = project.folder / "small.toml"
    spec.write_text(spec.read_text().replace("code = 1000", "code = 1"))
    back = Fault("job", "clock", step=1, process=1, shift_s=-DAY_S)
    fails = [Fault("job", "EIO", step=20, process=n) for n in range(1, 9)]
    ended = project.submit(back, *fails)
    assert ended.status == 1
    assert len(list(project.runs.glob("prepare-*/attempt-*"))) == 2
    project.remove()


def test_a_checkpoint_whose_state_has_changed_is_not_resumed_from(tmp_path: Path) -> None:
    module = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(module.parameters())
    moments = optimizer_tensors(optimizer)
    place = save_checkpoint(tmp_path, module.state_dict(), moments, Progress(step=3))
    assert load_checkpoint(place, module, optimizer) == Progress(step=3)
    state = place / "state.json"
    state.write_text(state.read_text().replace('"step": 3', '"step": 7'))
    with pytest.raises(CheckpointError, match="has changed"):
        load_checkpoint(place, module, optimizer)


def test_a_fingerprint_with_a_turned_bit_is_made_anew(tmp_path: Path) -> None:
    file, memory = tmp_path / "rows.jsonl", tmp_path / "fingerprints.json"
    file.write_text("{}\n")
    first = Fingerprints(memory)
    true = first.of(file)
    first.save()
    kept = json.loads(memory.read_text())
    changed = memory.read_text().replace(true.sha256, true.sha256[::-1])
    assert kept and changed != memory.read_text()
    memory.write_text(changed)
    assert Fingerprints(memory).of(file) == true
