"""One number that is edited anywhere between a job and the paper is noticed before it is shown."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Project

from lwspec.cli.report import read_content
from lwspec.cli.session import open_session
from lwspec.engine.runs.checksum import is_intact, sha256_of, with_checksum
from lwspec.engine.runs.jsonfile import read_json
from lwspec.errors import ReportError
from lwspec.report.content import Content
from lwspec.report.markdown import results_md


def read(project: Project, *, rescan: bool = False) -> Content:
    """What the report would show."""
    database = project.folder / "results.db"
    return read_content(open_session(project.spec, database, project.runs, rescan=rescan))


@pytest.fixture(scope="module")
def shown(copy_of_finished: Callable[[], Project]) -> Project:
    """A finished project whose report was read once: what was recorded is in results.db."""
    project = copy_of_finished()
    read(project)
    return project


def job_of(project: Project, kind: str, label: str) -> Path:
    (found,) = (
        path.parent
        for path in project.runs.glob(f"{kind}-*/job.json")
        if read_json(path)["label"] == label
    )
    return found


def another_number(key: str) -> Callable[[Path], None]:
    """Change the first digit of a number, as somebody would in an editor."""

    def edit(path: Path) -> None:
        text = path.read_text()
        found = list(re.finditer(rf'"{key}": -?([0-9])', text))[-1]
        digit = "1" if found[1] == "2" else "2"
        path.write_text(text[: found.start(1)] + digit + text[found.end(1) :])

    return edit


def flipped(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


BRIDGE = ("evaluate", "bridge colour s2")
FIT = ("fit", "bridge colour s2")


@pytest.mark.parametrize(
    ("job", "name", "edit"),
    [
        (BRIDGE, "taken/result.json", another_number("accuracy")),
        (BRIDGE, "taken/result.json", another_number("n")),
        (BRIDGE, "attempt-1/evaluation.json", another_number("accuracy")),
        (BRIDGE, "attempt-1/predictions/test.parquet", flipped),
        (BRIDGE, "attempt-1/exit.json", another_number("device_s")),
        (BRIDGE, "attempt-1/started.json", another_number("threads")),
        (BRIDGE, "attempt-1/events.jsonl", another_number("device_s")),
        (BRIDGE, "job.json", another_number("batch_size")),
        (FIT, "taken/epoch-001.json", another_number("validation_accuracy")),
        (FIT, "attempt-1/weights/epoch-002.safetensors", flipped),
        (FIT, "job.json", another_number("learning_rate")),
        (("prepare", "data colour"), "attempt-1/rows/test.parquet", flipped),
        (("prepare", "text llama colour"), "attempt-1/texts/test.parquet", flipped),
    ],
)
def test_an_edited_file(
    job: tuple[str, str], name: str, edit: Callable[[Path], None], shown: Project
) -> None:
    path = job_of(shown, *job) / name
    before = path.read_bytes()
    edit(path)
    assert path.read_bytes() != before
    try:
        with pytest.raises(ReportError) as refused:
            read(shown)
    finally:
        path.write_bytes(before)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("update metrics set value = value + 0.01 where name = 'accuracy'", "(accuracy)"),
        ("update metrics set value = 0.5 where name = 'validation_accuracy'", "metrics of"),
        ("delete from metrics where name = 'macro_f1'", "(macro_f1)"),
        ("update outputs set facts = json_set(facts, '$.n', 29) where facts ->> 'n'", "(n)"),
        ("update outputs set facts = json_set(facts, '$.samples', 1)", "(samples): 1"),
        ("update outputs set files = json_set(files, '$.\"evaluation.json\"', '0')", "files of"),
        ("update attempts set device_s = device_s / 2", "device_s of"),
        ("update attempts set git_sha = 'abc', dirty = 0", "git_sha of"),
        ("update attempts set evidence = json_set(evidence, '$.gpu', 'H100')", "(gpu): 'H100'"),
    ],
)
def test_an_edited_row_of_the_database(
    statement: str, said: str, shown: Project, tmp_path: Path
) -> None:
    database = shown.folder / "results.db"
    shutil.copy(database, tmp_path / "before.db")
    connection = sqlite3.connect(database)
    with connection:
        assert connection.execute(statement).rowcount
    connection.close()
    try:
        with pytest.raises(ReportError) as refused:
            read(shown)
        assert said in str(refused.value)
        assert "the database and the records disagree" in str(refused.value)
        assert "--rescan" in str(refused.value)
        read(shown, rescan=True)
    finally:
        shutil.copy(tmp_path / "before.db", database)


def test_an_edited_cost_of_an_attempt_that_never_ended_is_read_again(
    copy_of_finished: Callable[[], Project],
) -> None:
    project = copy_of_finished()
    killed = job_of(project, *BRIDGE) / "attempt-2"
    shutil.copytree(killed.with_name("attempt-1"), killed)
    (killed / "exit.json").unlink()
    before = read(project).evidence.summary()
    connection = sqlite3.connect(project.folder / "results.db")
    with connection:
        connection.execute("update attempts set device_s = 3600 where number = 2")
    connection.close()
    assert read(project).evidence.summary() == before


def swapped(project: Project) -> Path:
    """An evaluation's folder that holds the whole attempt and result of another."""
    mine, other = job_of(project, *BRIDGE), job_of(project, "evaluate", "bridge colour s1")
    for name in ("attempt-1", "taken"):
        shutil.rmtree(mine / name)
        shutil.copytree(other / name, mine / name)
    return mine


def unlisted(project: Project) -> Path:
    """A finished evaluation of which a record has lost its checksum after an edit."""
    mine = job_of(project, *BRIDGE)
    path = mine / "taken/result.json"
    record = json.loads(path.read_text())
    del record["checksum"]
    path.write_text(json.dumps({**record, "metrics": {**record["metrics"], "accuracy": 0.9}}))
    return mine


def nameless(project: Project) -> Path:
    """The same without the name of its job."""
    mine = job_of(project, *BRIDGE)
    path = mine / "attempt-1/exit.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in record.items() if k not in ("job", "checksum")}))
    return mine


@pytest.mark.parametrize("database", [False, True])
@pytest.mark.parametrize("damage", [swapped, unlisted, nameless])
def test_a_record_that_its_attempt_did_not_write_is_no_result(
    damage: Callable[[Project], Path], database: bool, copy_of_finished: Callable[[], Project]
) -> None:
    project = copy_of_finished()
    if database:
        project.run("status", "small.toml")
    mine = damage(project).relative_to(project.folder)
    remedy = f"next: restore the file, or delete {mine}, then lwspec submit"
    for verb in (["status", "--rescan"], ["report"], ["export", "--to", "out"]):
        said = project.run(verb[0], "small.toml", *verb[1:], status=int(verb[0] != "status"))
        assert f"{mine}/" in said.stderr and remedy in said.stderr, verb
    if not database:
        said = project.run("submit", "small.toml", "--yes", status=1)
        assert f"damaged  {mine}/" in said.stdout.replace(f"{project.folder}/", "")
        assert remedy.removeprefix("next: ") in said.stdout
    shutil.rmtree(project.folder / mine)
    project.run("submit", "small.toml", "--yes")
    project.run("report", "small.toml")


def test_what_lwspec_before_0_3_wrote_is_still_a_result(
    copy_of_finished: Callable[[], Project],
) -> None:
    project = copy_of_finished()
    before = results_md(read(project))
    for number, folder in enumerate(sorted(project.runs.glob("*-*/attempt-1"))):
        for path in [folder / "started.json", *folder.glob("outputs/*"), folder / "exit.json"]:
            record = {k: v for k, v in read_json(path).items() if k not in ("job", "checksum")}
            if path.name == "exit.json":
                record["files"]["started.json"] = sha256_of(folder / "started.json")
            whole = path.name == "started.json" or number % 2
            path.write_text(json.dumps(record if whole else with_checksum(record)))
            if path.parent.name == "outputs":
                shutil.copy(path, folder.parent / "taken" / path.name)
    assert results_md(read(project, rescan=True)) == before


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("attempt-1/started.json", another_number("threads")),
        ("attempt-1/events.jsonl", another_number("device_s")),
        ("attempt-1/predictions/test.parquet", flipped),
        ("job.json", another_number("batch_size")),
    ],
)
def test_a_rescan_says_what_differs(
    name: str, edit: Callable[[Path], None], copy_of_finished: Callable[[], Project]
) -> None:
    project = copy_of_finished()
    project.run("status", "small.toml")
    assert project.run("status", "small.toml", "--rescan").stderr == ""
    path = job_of(project, *BRIDGE) / name
    edit(path)
    said = project.run("status", "small.toml", "--rescan").stderr
    assert f"{path.relative_to(project.folder)}: " in said
    assert "next: restore the file, or delete runs/evaluate-" in said


def test_edited_statistics_are_computed_again(shown: Project) -> None:
    before = results_md(read(shown))
    kept = shown.runs / "cache" / "statistics.json"
    text = kept.read_text()
    kept.write_text(re.sub(r'("mean": )[0-9.]+', r"\g<1>0.123", text))
    assert kept.read_text() != text
    assert results_md(read(shown)) == before
    assert json.loads(kept.read_text()) == json.loads(text)


@pytest.mark.parametrize("value", [0.1 + 0.2, float("nan"), 1, "text", None, {"10": 1, "9": [2.5]}])
def test_a_checksum_holds_for_what_is_read_back(value: Any) -> None:
    record = json.loads(json.dumps(with_checksum({"value": value, 10: 1, 9: 2})))
    assert is_intact(record)
    assert not is_intact({**record, "value": "another"})
    assert not is_intact({**record, "more": 1})
    assert not is_intact({"without": "a checksum"})
