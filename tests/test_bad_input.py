"""Bad input gets a clear error and loses nothing."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, ROOT, Project
from test_run import dump, states


def own_data(project: Project, change: Callable[[dict[str, object]], None]) -> None:
    """Give the project rows of its own, each changed in place."""
    source = (project.folder / "data").resolve()
    (project.folder / "data").unlink()
    shutil.copytree(source, project.folder / "data")
    for path in (project.folder / "data").iterdir():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            change(row)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_label_that_the_task_lacks_stops_before_any_training(project: Project) -> None:
    def change(row: dict[str, object]) -> None:
        row["label"] = 3 if row["text"] == first else row["label"]

    rows = (project.folder / "data/train.jsonl").read_text().splitlines()
    first = json.loads(rows[5])["text"]
    own_data(project, change)
    done = project.run("submit", "small.toml", status=1)
    assert "split 'train', row 5: the label 3 is not among the task's 3 labels" in done.stdout
    assert "red, blue, green stone" in done.stdout
    assert "blocked  fit bridge colour s1 by data colour" in done.stdout
    assert not list(project.runs.glob("fit-*/attempt-*"))


def test_a_missing_column_names_the_nearest(project: Project) -> None:
    def change(row: dict[str, object]) -> None:
        row["txt"] = row.pop("text")

    own_data(project, change)
    done = project.run("submit", "small.toml", status=1)
    assert "has no column 'text'" in done.stdout
    assert "did you mean: txt" in done.stdout


def test_data_that_are_not_json(project: Project) -> None:
    own_data(project, lambda row: None)
    (project.folder / "data/test.jsonl").write_text('{"text": "red"\nnonsense')
    done = project.run("submit", "small.toml", status=1)
    assert "cannot load the data" in done.stdout


def test_fewer_rows_than_the_spec_asks_for(project: Project) -> None:
    project.keep("probe", "main")
    project.change("samples = 48", "samples = 480")
    assert (
        "480 training samples are asked for" in project.run("plan", "small.toml", status=2).stderr
    )
    project.change("samples = 480", "samples = 68")  # as many as there are lines; one text is twice
    done = project.run("submit", "small.toml", "--only", "linear_probe", status=1)
    assert "asks for 68 training samples; the split has" in done.stdout
    assert "samples = { max = 68 }" in done.stdout


def test_an_arm_that_cannot_run_fails_alone(project: Project) -> None:
    project.keep("probe", "main")
    project.change("folds = 2", "folds = 40")
    done = project.run("submit", "small.toml", status=1)
    assert "failed   fit linear_probe colour [bad data]" in done.stdout
    assert "40 folds" in done.stdout
    said = project.run("why", "fit linear_probe colour").stdout
    assert "[failed]" in said
    assert "outcome   bad data: " in said
    assert "40 folds" in said
    project.run("report", "small.toml", "--paper", "paper")
    text = (project.folder / "paper/tables/main.tex").read_text()
    assert r"linear\_probe & \multicolumn{2}{c}{\textit{not run}}" in text
    assert "2 of 2" in text


def test_damaged_weights_are_refused(project: Project) -> None:
    source = (project.folder / "models").resolve()
    (project.folder / "models").unlink()
    shutil.copytree(source, project.folder / "models")
    (project.folder / "models/llama/model.safetensors").write_bytes(b"\x08" + b"\x00" * 20)
    done = project.run("submit", "small.toml", "--only", "sender_direct", status=1)
    assert "cannot load the model" in done.stdout


@pytest.mark.parametrize("damage", ["cut short", "nonsense in the middle"])
def test_damaged_events_lose_nothing_else(
    damage: str, copy_of_finished: Callable[[], Project]
) -> None:
    project = copy_of_finished()
    path = next(project.runs.glob("fit-*/attempt-1/events.jsonl"))
    raw = path.read_bytes()
    middle = b"\n\x00{nonsense\n"
    path.write_bytes(raw[:-7] if damage == "cut short" else raw[:40] + middle + raw[40:])
    done = project.run("status", "small.toml")
    assert states(project) == {"done"}
    if damage != "cut short":
        assert f"{path.relative_to(project.folder)}: " in done.stderr
        assert "damaged lines were left out" in done.stderr


@pytest.mark.parametrize("name", ["job.json", "attempt-1/exit.json", "attempt-1/started.json"])
def test_an_unreadable_record_is_named_and_the_rest_is_kept(
    name: str, copy_of_finished: Callable[[], Project]
) -> None:
    project = copy_of_finished()
    path = next(project.runs.glob("evaluate-*")) / name
    path.write_text('{"half": ')
    done = project.run("status", "small.toml", status=None)
    assert f"{path.relative_to(project.folder)}: unreadable" in done.stderr
    with sqlite3.connect(project.folder / "results.db") as connection:
        (count,) = connection.execute("select count(*) from metrics").fetchone()
    assert count > 20


def test_a_database_of_a_newer_lwspec_is_left_alone(
    project: Project,
) -> None:
    project.run("status", "small.toml")
    path = project.folder / "results.db"
    with sqlite3.connect(path) as connection:
        connection.execute("update about set value = '99' where key = 'schema_version'")
        connection.execute("update about set value = 'lwspec 9.1' where key = 'written_by'")
    before = dump(path)
    done = project.run("status", "small.toml", status=2)
    assert "has schema 99, of lwspec 9.1" in done.stderr
    assert "pip install 'lwspec>=9.1'" in done.stderr
    assert dump(path) == before


def test_a_database_of_an_older_lwspec_is_migrated_which_one_line_says(
    project: Project,
) -> None:
    path = project.folder / "results.db"
    with sqlite3.connect(path) as connection:
        connection.executescript((ROOT / "tests/schemas/1.sql").read_text(encoding="utf-8"))
    before = dump(path)
    done = project.run("status", "small.toml", "--json")
    (kept,) = project.folder.glob("results.db.schema1.*")
    assert done.stderr.splitlines() == [
        f"lwspec: results.db was migrated; what it was: {kept.name}"
    ]
    assert dump(kept) == before
    assert json.loads(done.stdout)
    assert project.run("status", "small.toml").stderr == ""


def test_a_file_that_is_no_database(copy_of_finished: Callable[[], Project]) -> None:
    project = copy_of_finished()
    (project.folder / "results.db").write_text("this is not a database, it is a text file")
    assert "file is not a database" in project.run("status", "small.toml", status=2).stderr


def test_changed_weights_of_a_checkpoint_are_refused(
    copy_of_finished: Callable[[], Project],
) -> None:
    project = copy_of_finished()
    fit = next(p for p in project.runs.glob("fit-*") if "bridge" in (p / "job.json").read_text())
    path = fit / "attempt-1/weights/epoch-002.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    for job in project.runs.glob("evaluate-*"):
        if fit.name in (job / "job.json").read_text():
            shutil.rmtree(job)
    done = project.run("submit", "small.toml", status=1)
    assert "the file has changed since it was recorded" in done.stdout


def test_edited_rows_are_refused(copy_of_finished: Callable[[], Project]) -> None:
    project = copy_of_finished()
    rows = next(project.runs.glob("prepare-*/attempt-1/rows/test.parquet"))
    rows.write_bytes(rows.read_bytes()[:-1] + b"x")
    shutil.rmtree(next(project.runs.glob("evaluate-*")))
    done = project.run("submit", "small.toml", status=1)
    assert "the file has changed since it was recorded" in done.stdout


def test_data_that_change_after_planning_are_refused(project: Project) -> None:
    own_data(project, lambda row: None)
    project.run("submit", "small.toml", "--only", "data colour")
    (job,) = project.runs.glob("prepare-*/job.json")
    shutil.rmtree(job.parent / "taken")
    shutil.rmtree(job.parent / "attempt-1")
    path = project.folder / "data/test.jsonl"
    path.write_text(path.read_text().replace("red", "rot"))
    command = [sys.executable, "-m", "lwspec.kernels.run", str(job.parent)]
    assert subprocess.run(command, cwd=project.folder, env=ENVIRONMENT).returncode == 1
    ended = json.loads((job.parent / "attempt-1/exit.json").read_text())
    assert ended["outcome"] == "bad data"
    assert "changed since they were planned" in ended["message"]


def test_a_path_that_is_no_folder(project: Project) -> None:
    (project.folder / "runs").write_text("not a folder")
    assert "next: mend the path" in project.run("plan", "small.toml", status=1).stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system of 300 KiB of its own, which fills while jobs run."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "lwspec", folder]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_fails_the_job_and_the_next_submit_goes_on(
    project: Project, small_disk: Path
) -> None:
    project.change("latents = 4, width = 16", "latents = 4, width = 64")
    done = project.run(
        "submit", "small.toml", "--only", "bridge colour s1", "--runs", str(small_disk), status=None
    )
    assert done.returncode in (1, 2)
    assert "No space left" in done.stdout + done.stderr
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    arguments = ("submit", "small.toml", "--only", "bridge colour s1", "--runs", str(small_disk))
    assert "jobs done" in project.run(*arguments, "--yes").stdout
