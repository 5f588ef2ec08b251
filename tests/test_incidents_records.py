"""Incidents of runs and their records: weights, resuming, running again, what was kept.

docs/reliability.md lists all forty; each test is named after its number there.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SPEC, Project
from incidents import (
    Copy,
    edit,
    ended,
    entries,
    jobs,
    lwspec,
    owed,
    predictions,
    record,
    run_here,
    tables_alone,
)
from safetensors.torch import load_file, save_file

from lwspec.engine.job import Job
from lwspec.engine.runs.checksum import sha256_of
from lwspec.engine.runs.runfolder import JobFolder
from lwspec.errors import RunFolderError
from lwspec.kernels.going import _peak_bytes
from lwspec.kernels.measuring.latency import Stopwatch
from lwspec.kernels.training.trainer import epoch_order

WEIGHTS = "attempt-1/weights/epoch-002.safetensors"


def forget_second_epoch(fit: Path) -> None:
    """Leave a fit as if it had been killed early in its second epoch."""
    for name in ("taken/epoch-002.json", "attempt-1/outputs/epoch-002.json", WEIGHTS):
        (fit / name).unlink()
    (fit / "attempt-1/exit.json").unlink()
    shutil.rmtree(fit / "attempt-1/checkpoints/step-00000012")


def test_incident_15_the_same_job_gives_the_same_weights_and_predictions(project: Project) -> None:
    project.keep("main")
    project.change('arms = ["bridge"]', 'arms = ["lora"]\nseeds = [1]')
    project.change("bridge = { layer = 1, latents = 4, width = 16, depth = 1, heads = 2 }\n", "")
    made = []
    for noise in (1, 2):
        random.seed(noise)
        torch.manual_seed(noise)
        run_here(project)
        fit, test = jobs(project, "fit")["lora colour s1"], jobs(project, "evaluate")
        made.append((sha256_of(fit / WEIGHTS), predictions(test["lora colour s1"])))
        for folder in (fit, test["lora colour s1"]):
            shutil.rmtree(folder)
    assert made[0] == made[1]


def test_incident_20_weights_that_no_fit_made_are_not_measured(copy_of_finished: Copy) -> None:
    project = tables_alone(copy_of_finished())
    fit = jobs(project, "fit")["bridge colour s1"]
    path = fit / WEIGHTS
    drawn = {name: torch.randn_like(tensor) for name, tensor in load_file(path).items()}
    save_file(drawn, path)
    with pytest.raises(RunFolderError, match="has changed since it was recorded"):
        JobFolder(fit).file("epoch-002", "weights/epoch-002.safetensors")
    refused = lwspec(project, "report", "small.toml", "--paper", "paper", status=1)
    assert "the evidence of bridge colour s1 has changed" in refused.err
    shutil.rmtree(jobs(project, "evaluate")["bridge colour s1"])
    ran = run_here(project, "bridge colour s1")["bridge colour s1"]
    assert "changed since it was recorded" in ended(ran)["message"]
    assert not ran.taken()


def test_incident_21_weights_that_lack_a_part_are_not_loaded(copy_of_finished: Copy) -> None:
    project = copy_of_finished()
    fit = jobs(project, "fit")["bridge colour s1"]
    path, weights = fit / WEIGHTS, load_file(fit / WEIGHTS)
    lost = sorted(weights)[0]
    save_file({name: tensor for name, tensor in weights.items() if name != lost}, path)
    for place in ("taken/epoch-002.json", "attempt-1/outputs/epoch-002.json"):
        edit(fit / place, files={"weights/epoch-002.safetensors": sha256_of(path)})
    shutil.rmtree(jobs(project, "evaluate")["bridge colour s1"])
    ran = run_here(project, "bridge colour s1")["bridge colour s1"]
    assert ended(ran)["outcome"] == "code"
    assert "Missing key" in ended(ran)["message"] and lost in ended(ran)["message"]
    assert not ran.taken()


def test_incident_22_a_fit_goes_on_with_its_weights_and_another_order_each_epoch(
    copy_of_finished: Copy,
) -> None:
    project = copy_of_finished()
    fit = jobs(project, "fit")["bridge colour s1"]
    whole = sha256_of(fit / WEIGHTS)
    forget_second_epoch(fit)
    ran = run_here(project, "bridge colour s1")["bridge colour s1"]
    assert ended(ran)["outcome"] == "finished"
    events, _ = JobFolder(fit).attempts()[-1].events()
    assert [event["step"] for event in events if event["event"] == "resumed"] == [6]
    assert sha256_of(fit / WEIGHTS.replace("attempt-1", "attempt-2")) == whole
    orders = [epoch_order(48, 1, epoch) for epoch in (1, 2, 3)]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert all(sorted(order) == list(range(48)) for order in orders)


def test_incident_26_an_aborted_start_leaves_what_it_finished(copy_of_finished: Copy) -> None:
    project = copy_of_finished()
    shutil.rmtree(jobs(project, "evaluate")["truncated colour"])
    forget_second_epoch(jobs(project, "fit")["bridge colour s2"])
    assert owed(project) == {"evaluate truncated colour", "fit bridge colour s2"}


def test_incident_27_a_cell_that_was_measured_is_taken_over_by_another_spec(
    copy_of_finished: Copy,
) -> None:
    project = copy_of_finished()
    other = SPEC.replace('name = "small"', 'name = "other"')
    other = other.replace('name = "direct"', 'name = "zero_shot"').replace(
        '"direct"', '"zero_shot"'
    )
    project.write(other.replace("seeds = [1, 2]", "seeds = [2, 1]"))
    assert owed(project) == set()
    project.change("seeds = [2, 1]", "seeds = [2, 3]")
    assert owed(project) == {"fit bridge colour s3", "evaluate bridge colour s3"}


def test_incident_28_a_second_submit_runs_nothing(copy_of_finished: Copy) -> None:
    project = copy_of_finished()
    before = sorted(project.runs.glob("*/attempt-*"))
    assert "nothing to run" in lwspec(project, "submit", "small.toml", "--yes").out
    assert sorted(project.runs.glob("*/attempt-*")) == before


def test_incident_30_a_result_is_found_by_its_job_and_what_is_missing_is_no_zero(
    copy_of_finished: Copy,
) -> None:
    project = tables_alone(copy_of_finished())
    whole = entries(project)
    project.change('name = "main"\narms', 'name = "hail mary 64 s7"\narms')
    project.change('"probe", "main"]', '"probe", "hail mary 64 s7"]')
    assert entries(project)["bridge"] == whole["bridge"]
    for label, metrics in (("truncated colour", {}), ("no_message colour", {"accuracy": None})):
        folder = jobs(project, "evaluate")[label]
        for place in ("taken/result.json", "attempt-1/outputs/result.json"):
            edit(folder / place, metrics=metrics)
    lwspec(project, "status", "small.toml", "--rescan")
    lines = entries(project)
    for row in ("truncated", "no_message"):
        assert (lines[row]["value"], lines[row]["status"]) == ("", "n/a")
    assert lines["bridge"]["value"] == whole["bridge"]["value"]


def test_incident_31_memory_is_that_of_every_gpu(
    finished: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = {0: 0, 1: 3 * 2**30}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(used))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device=0: used[device])
    assert Stopwatch(torch.device("cuda")).peak_bytes() == 3 * 2**30
    job: Any = Job("a", "latency", "bridge", {}, {}, ("result",), "a", {}, gpus=2)
    assert _peak_bytes(job) == 3 * 2**30
    for path in finished.runs.glob("*/attempt-1/exit.json"):
        assert record(path)["peak_bytes"] > 2**20


def test_incident_34_what_was_deleted_is_missed_and_the_database_comes_back(
    copy_of_finished: Copy,
) -> None:
    project = tables_alone(copy_of_finished())
    whole = entries(project)
    for attempt in project.runs.glob("*/attempt-1"):
        assert (attempt / "log.txt").exists()
    (project.folder / "results.db").unlink()
    assert entries(project) == whole
    path = jobs(project, "fit")["bridge colour s2"] / WEIGHTS
    path.unlink()
    refused = lwspec(project, "report", "small.toml", "--paper", "paper", status=1)
    assert "the evidence of bridge colour s2 is gone" in refused.err
    assert str(path.relative_to(project.folder)) in refused.err
    for kind in ("fit", "evaluate"):
        shutil.rmtree(jobs(project, kind)["bridge colour s2"])
    line = entries(project)["bridge"]
    assert (line["finished"], line["planned"]) == ("1", "2")
