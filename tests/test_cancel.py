"""`cancel` while a submit runs here: what was taken back is not started, and named as such."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

import pytest
from test_local import pack
from test_many_at_once import plan as plan

from lwspec.cli import main
from lwspec.engine.executors.local import LocalExecutor, Slots
from lwspec.engine.runs.jsonfile import write_json
from lwspec.engine.runs.runfolder import JobFolder, Runs
from lwspec.engine.spec.spec import Retries
from lwspec.kernels.attempt import StopFlag
from lwspec.kernels.run import run_jobs

WAIT_S = 300


def _submit(log: Path) -> None:
    with log.open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", buffering=1) for n in (1, 2))
    sys.exit(main(["submit", "small.toml", "--yes"]))


def _folders(plan: Path) -> dict[str, JobFolder]:
    """The folder of each job that was granted, by kind and label."""
    found = [JobFolder(path.parent) for path in plan.glob("runs/*/job.json")]
    return {f"{folder.job().kind} {folder.job().label}": folder for folder in found}


def _states(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    capsys.readouterr()
    main(["status", "small.toml", "--json"])
    told = json.loads(capsys.readouterr().out)["jobs"]
    return {f"{job['kind']} {job['label']}": job["state"] for job in told}


def test_what_is_cancelled_while_a_submit_runs_is_not_started_until_it_is_retried(
    plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = {"data t0": {"seconds": 20}, "data t1": {"seconds": WAIT_S}}
    (plan / "control.json").write_text(json.dumps(slow))
    submit = multiprocessing.get_context("fork").Process(target=_submit, args=(plan / "log",))
    submit.start()
    deadline = time.monotonic() + WAIT_S
    while not all(list(_folders(plan).get(f"prepare data t{n}", JobFolder(plan)).path.glob(
        "attempt-1/started.json")) for n in range(2)):  # fmt: skip
        assert submit.is_alive() and time.monotonic() < deadline, (plan / "log").read_text()
        time.sleep(0.1)
    for only in ("evaluate*t0*", "prepare data t1"):
        assert main(["cancel", "small.toml", "--only", only]) == 0
    submit.join(WAIT_S)
    assert submit.exitcode == 1
    said = (plan / "log").read_text()
    states = _states(capsys)
    named = {state: [job for job in states if states[job] == state] for state in states.values()}
    assert set(named) == {"done", "cancelled", "blocked"}, named
    (waited,) = [job for job in named["cancelled"] if job.startswith("evaluate")]
    assert len(named["cancelled"]) == 2 and not _folders(plan)[waited].attempts()
    for job in named["cancelled"]:
        assert f"cancelled  {job}\n" in said
    (blocked,) = named["blocked"]
    assert f"blocked  {blocked} by data t1\n" in said
    assert "failed" not in said and "· 2 cancelled" in said
    assert "next     lwspec retry" in said
    (plan / "control.json").unlink()
    assert main(["retry", "small.toml"]) == 0
    assert set(_states(capsys).values()) == {"done"}


def _granted(runs: Runs) -> JobFolder:
    """A job's folder, as a grant leaves it."""
    (job,) = pack("fit").jobs
    record = {**job.to_json(), "outputs": ["result"], "allowance_s": 1.0, "granted_at": 0.0}
    write_json(runs.folder(job.id).path / "job.json", record)
    return runs.folder(job.id)


def test_a_pack_that_waits_loses_what_was_taken_back(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    executor = LocalExecutor(runs, [pack("fit")], Slots(2, ()), 1.0, Retries(), fork=True)
    _granted(runs).cancel()
    executor._start_what_can()
    assert not executor._running and not executor._waiting
    assert (executor._tick().cancelled, executor._tick().failed) == (1, 0)


def test_a_pack_that_runs_does_not_begin_what_was_taken_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _granted(Runs(tmp_path))
    folder.cancel()
    assert not run_jobs([folder], StopFlag())
    assert not folder.attempts() and "was cancelled: lwspec retry" in capsys.readouterr().err
