"""From a spec to a paper, typed as a user types it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, ROOT, Project
from pyarrow import parquet

from lwspec.engine.runs.jsonfile import read_json, write_json, write_record


def results(project: Project) -> dict[str, bytes]:
    """Every taken prediction file's bytes, by job."""
    found = {}
    for path in project.runs.glob("evaluate-*/taken/result.json"):
        record = json.loads(path.read_text())
        attempt = path.parent.parent / f"attempt-{record['attempt']}"
        found[path.parent.parent.name] = (attempt / "predictions/test.parquet").read_bytes()
    return found


def states(project: Project) -> set[str]:
    done = project.run("status", "small.toml", "--json", status=None)
    return {job["state"] for job in json.loads(done.stdout)["jobs"]}


def dump(path: Path) -> list[str]:
    """Every row of a database but when it was written."""
    with sqlite3.connect(path) as connection:
        return sorted(connection.iterdump())


def test_everything_is_done_and_a_second_submit_runs_nothing(finished: Project) -> None:
    assert states(finished) == {"done"}
    attempts = {str(path) for path in finished.runs.glob("*/attempt-*")}
    assert "nothing to run" in finished.run("submit").stdout
    assert {str(path) for path in finished.runs.glob("*/attempt-*")} == attempts


def test_verbs_without_a_spec_take_the_one_planned_last(finished: Project) -> None:
    for verb in ("submit", "status"):
        assert finished.run(verb).stdout.startswith("spec small.toml, planned last here")


def test_a_spec_that_could_not_be_planned_is_not_passed_over(project: Project) -> None:
    project.run("plan", "small.toml")
    wrong = project.spec.read_text().replace("[experiment", "[experimnt")
    (project.folder / "wrong.toml").write_text(wrong)
    project.run("plan", "wrong.toml", status=2)
    refused = project.run("submit", status=2)
    assert refused.stdout == "spec wrong.toml, planned last here\n"
    assert "wrong.toml" in refused.stderr
    project.run("plan", "small.toml")
    assert project.run("status").stdout.startswith("spec small.toml, planned last here")


def test_a_total_counts_jobs_once_as_the_plan_does(project: Project) -> None:
    planned = json.loads(project.run("plan", "small.toml", "--json").stdout)
    shown = project.run("status").stdout
    (total,) = re.findall(r"^total +(.+)$", shown, re.M)
    assert sum(map(int, total.split())) == sum(row["jobs"] for row in planned["experiments"])
    assert "counted in each of them, once in the total" in shown


def test_every_evaluation_holds_the_auditors_record(finished: Project) -> None:
    records = [json.loads(p.read_text()) for p in finished.runs.glob("*/attempt-1/evaluation.json")]
    assert len(records) == 8
    git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    head = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    for record in records:
        assert record["task"] == "colour"
        assert record["split"] == "test"
        assert record["n"] == 30
        assert (record["sender"], record["receiver"]) == ("llama", "mistral")
        assert record["git_sha"] == head
        for key in ("timestamp", "command", "hardware", "host"):
            assert record[key]
        assert {"accuracy", "macro_f1"} <= set(record["metrics"])
    bridge = [record for record in records if record["arm"] == "bridge"]
    assert {record["seed"] for record in bridge} == {1, 2}
    assert all(record["checkpoint"]["epoch"] == 2 for record in bridge)


def test_an_attempt_records_code_machine_and_packages(finished: Project) -> None:
    for path in finished.runs.glob("*/attempt-1/started.json"):
        evidence = json.loads(path.read_text())["evidence"]
        assert evidence["packages"]["torch"]
        assert evidence["process"]["pid"]
        assert evidence["source_files"]["models/reader.py"]
        assert (path.parent / "code.diff").exists() is evidence["dirty"]
        ended = json.loads((path.parent / "exit.json").read_text())
        assert ended["outcome"] == "finished"
        assert ended["device_s"] > 0
        assert ended["peak_bytes"] > 2**20


def test_accuracy_can_be_computed_again_from_the_stored_predictions(finished: Project) -> None:
    for path in finished.runs.glob("evaluate-*/attempt-1"):
        rows = parquet.read_table(path / "predictions/test.parquet").to_pylist()
        metrics = json.loads((path / "evaluation.json").read_text())["metrics"]
        assert [row["item"] for row in rows] == list(range(30))
        for row in rows:
            best = max(range(3), key=row["label_logprobs"].__getitem__)
            assert row["predicted"] == best
        right = sum(row["predicted"] == row["label"] for row in rows) / 30
        assert metrics["accuracy"] == pytest.approx(right)


def test_splits_are_disjoint_by_content_and_say_what_they_left_out(finished: Project) -> None:
    (record,) = [
        json.loads(path.read_text()) for path in finished.runs.glob("prepare-*/taken/result.json")
    ]
    folder = next(finished.runs.glob("prepare-*/attempt-1/rows"))
    texts = {
        split: set(parquet.read_table(folder / f"{split}.parquet").column("context").to_pylist())
        for split in ("train", "validation", "test")
    }
    assert not texts["train"] & texts["test"]
    assert not texts["train"] & texts["validation"]
    assert not texts["validation"] & texts["test"]
    assert record["facts"]["left_out"] == 1
    assert record["facts"]["rows"]["test"] == 30


def test_the_printed_command_runs_a_job_by_hand(copy_of_finished: Callable[[], Project]) -> None:
    project = copy_of_finished()
    path = next(project.runs.glob("evaluate-*/job.json"))
    before = results(project)[path.parent.name]
    for name in ("taken", "attempt-1"):
        shutil.rmtree(path.parent / name)
    command = shlex.split(json.loads(path.read_text())["command"])
    subprocess.run(command, cwd=project.folder, check=True, env=ENVIRONMENT)
    assert results(project)[path.parent.name] == before


def test_the_database_is_rebuilt_from_the_run_folders(
    copy_of_finished: Callable[[], Project],
) -> None:
    project = copy_of_finished()
    project.run("status", "small.toml")
    live = dump(project.folder / "results.db")
    (project.folder / "results.db").unlink()
    assert "results.db is new: made from runs/" in project.run("status", "small.toml").stderr
    assert dump(project.folder / "results.db") == live
    assert "is new" not in project.run("status", "small.toml", "--rescan").stderr
    assert dump(project.folder / "results.db") == live


def test_more_epochs_continue_the_fits_that_are_there(
    copy_of_finished: Callable[[], Project],
) -> None:
    project = copy_of_finished()
    project.change("epochs = 2", "epochs = 3")
    plan = json.loads(project.run("plan", "small.toml", "--json").stdout)
    fits = [
        job for job in plan["jobs"] if job["label"].startswith("bridge") and job["kind"] == "fit"
    ]
    assert [job["owed"] for job in fits] == [["epoch-003"], ["epoch-003"]]
    project.run("submit")
    for job in fits:
        events = (project.runs / job["id"] / "attempt-2/events.jsonl").read_text()
        steps = [json.loads(line) for line in events.splitlines()]
        assert [e["step"] for e in steps if e["event"] == "resumed"] == [12]
        assert [e["output"] for e in steps if e["event"] == "output"] == ["epoch-003"]


def test_submit_holds_to_the_plan_that_was_shown(copy_of_finished: Callable[[], Project]) -> None:
    project = copy_of_finished()
    project.run("plan", "small.toml")
    project.change("seeds = [1, 2]", "seeds = [1, 2, 3]")
    refused = project.run("submit", status=2)
    assert "new  fit bridge colour s3" in refused.stdout
    assert "has changed since it was shown" in refused.stderr
    assert not any("s3" in path.read_text() for path in project.runs.glob("fit-*/job.json"))


def test_a_plan_over_budget_is_not_submitted(project: Project) -> None:
    project.change("gpu_hours = 2.0", "gpu_hours = 0.0001")
    assert "over budget" in project.run("plan", "small.toml", status=3).stdout
    refused = project.run("submit", status=3)
    assert "the budget has 0.00 of 0.00 left" in refused.stderr
    assert not list(project.runs.glob("*/job.json"))


def test_a_job_stops_itself_at_its_allowance_and_goes_on_with_a_new_one(
    copy_of_finished: Callable[[], Project],
) -> None:
    """Also the bytes: 200 epochs in three attempts are those of 200 epochs in one."""
    project, whole = copy_of_finished(), copy_of_finished()
    for one in (project, whole):
        one.keep("main")
        one.change("epochs = 2", "epochs = 200")
        one.change("seeds = [1, 2]", "seeds = [1]")
    for path in whole.runs.glob("fit-*"):
        shutil.rmtree(path)
    whole.run("submit", "small.toml", "--yes")
    fit = next(path.parent for path in whole.runs.glob("fit-*/job.json"))
    job = read_json(whole.runs / fit.name / "job.json")
    folder = project.runs / fit.name
    write_json(folder / "job.json", {**job, "allowance_s": 4.5, "granted_after": 1})
    command = [sys.executable, "-m", "lwspec.kernels.run", str(folder)]
    subprocess.run(command, cwd=project.folder, env=ENVIRONMENT)
    assert read_json(folder / "attempt-2/exit.json")["outcome"] == "allowance"
    assert list((folder / "attempt-2/checkpoints").glob("step-*"))
    planned = json.loads(project.run("plan", "small.toml", "--json").stdout)["jobs"]
    (price,) = (job["price"] for job in planned if job["id"] == fit.name)
    assert price["p90_hours"] * 3600 >= 2 * 4.5  # it needs more than it was stopped at
    project.run("submit", "small.toml", "--yes")
    assert (folder / "attempt-3/exit.json").exists()
    assert results(project).items() >= results(whole).items()


def test_fewer_epochs_than_were_planned_before(copy_of_finished: Callable[[], Project]) -> None:
    project = copy_of_finished()
    for path in project.runs.glob("fit-*/job.json"):
        record = read_json(path)
        if record["step"] == "bridge":
            write_json(path, {**record, "outputs": [f"epoch-{n:03d}" for n in range(1, 9)]})
    project.change("epochs = 2", "epochs = 3")
    project.run("submit", "small.toml", "--yes")
    assert states(project) == {"done"}


def test_the_budget_holds_for_every_attempt_of_a_spec(
    copy_of_finished: Callable[[], Project],
) -> None:
    """Changing a setting gives new jobs; what the old ones spent stays spent."""
    project = copy_of_finished()
    before = json.loads(project.run("plan", "small.toml", "--json").stdout)["spent_hours"]
    assert before > 0
    project.change("learning_rate = 1e-3", "learning_rate = 2e-3")
    after = json.loads(project.run("plan", "small.toml", "--json").stdout)
    assert after["spent_hours"] == before
    assert any(job["owed"] for job in after["jobs"])


def test_a_budget_spent_while_jobs_run_stops_them_at_a_checkpoint(
    copy_of_finished: Callable[[], Project],
) -> None:
    project = copy_of_finished()
    project.keep("main")
    project.change("epochs = 2", "epochs = 3000")
    project.change("gpu_hours = 2.0", "gpu_hours = 20.0")
    plan = json.loads(project.run("plan", "small.toml", "--json").stdout)
    for path in project.runs.glob("*/attempt-1/exit.json"):
        record = read_json(path)
        if "fit" in str(path):
            write_record(path, {**record, "device_s": 1e-6})
    project.change("gpu_hours = 20.0", f"gpu_hours = {plan['spent_hours'] + 15 / 3600}")
    project.run("status", "small.toml", "--rescan", status=None)
    done = project.run("submit", "small.toml", "--yes", status=3)
    assert "the budget is spent" in done.stderr
    assert list(project.runs.glob("fit-*/attempt-2/checkpoints/step-*"))
