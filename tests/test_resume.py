"""Killed at any point, a plan ends with the bytes of one that never was."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, Project
from test_run import results

LONG = ("epochs = 2, batch_size = 8", "epochs = 30, batch_size = 2")


def start(project: Project) -> subprocess.Popen[bytes]:
    log = (project.folder / "log.txt").open("ab")
    return subprocess.Popen(
        project.command("submit", "small.toml", "--yes"),
        cwd=project.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        env=ENVIRONMENT, start_new_session=True,
    )  # fmt: skip


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [int(child) for child in path.read_text().split()]
    except OSError:
        return []


def jobs(pid: int) -> list[int]:
    """The processes that run jobs: grandchildren, by the process that they are forked from."""
    return [job for child in children(pid) for job in children(child)]


def training(project: Project) -> bool:
    return any(
        '"progress"' in path.read_text()
        for path in project.runs.glob("fit-*/attempt-*/events.jsonl")
    )


def table(project: Project) -> str:
    project.run("report", "small.toml", "--paper", "paper")
    return (project.folder / "paper/tables/main.tex").read_text()


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, world: Path
) -> tuple[dict[str, bytes], str]:
    project = Project(tmp_path_factory.mktemp("undisturbed"), world)
    project.keep("main")
    project.change(*LONG)
    project.run("submit", "small.toml", "--yes")
    return results(project), table(project)


@pytest.mark.parametrize("victim", ["job", "command line", "fork server", "all, again and again"])
def test_kill_9_changes_no_result(
    victim: str, project: Project, undisturbed: tuple[dict[str, bytes], str]
) -> None:
    project.keep("main")
    project.change(*LONG)
    moments = random.Random(victim)
    kills = 0
    process = start(project)
    while not training(project):
        assert process.poll() is None, (project.folder / "log.txt").read_text()
        time.sleep(0.05)
    while kills < (4 if "all" in victim else 2):
        time.sleep(moments.uniform(0.1, 1.0))
        if process.poll() is not None:
            process = start(project)
            continue
        processes = {
            "command line": [process.pid],
            "fork server": [child for child in children(process.pid) if children(child)],
            "job": jobs(process.pid)[:1],
        }
        for name, pids in processes.items():
            if name in victim or "all" in victim:
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
        if "command line" in victim or "all" in victim:
            process.wait()
        kills += 1
    process.wait()
    project.run("submit", "small.toml", "--yes")
    assert len(list(project.runs.glob("*/attempt-*"))) > len(list(project.runs.glob("*/job.json")))
    expected, tex = undisturbed
    assert results(project) == expected
    assert table(project) == tex


def test_ctrl_c_leaves_everything_resumable(
    project: Project, undisturbed: tuple[dict[str, bytes], str]
) -> None:
    project.keep("main")
    project.change(*LONG)
    process = start(project)
    while not training(project):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    stopped = [
        path
        for path in project.runs.glob("fit-*/attempt-1/exit.json")
        if "stopped" in path.read_text()
    ]
    assert stopped
    for path in stopped:
        assert list((path.parent / "checkpoints").glob("step-*/state.json"))
    assert "interrupted" in project.run("status", "small.toml").stdout
    project.run("submit", "small.toml", "--yes")
    assert results(project) == undisturbed[0]


def test_an_unreadable_checkpoint_is_reported_and_the_one_before_it_used(
    project: Project, undisturbed: tuple[dict[str, bytes], str]
) -> None:
    project.keep("main")
    project.change(*LONG)
    process = start(project)
    while not list(project.runs.glob("fit-*/attempt-1/checkpoints/step-*")):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    process.wait(timeout=60)
    damaged = list(project.runs.glob("fit-*/attempt-1/checkpoints/step-*/optimizer.safetensors"))
    for path in damaged:
        raw = bytearray(path.read_bytes())
        raw[-1] ^= 1
        path.write_bytes(raw)
    assert damaged
    project.run("submit", "small.toml", "--yes")
    events = "".join(p.read_text() for p in project.runs.glob("fit-*/attempt-2/events.jsonl"))
    assert "checkpoint_unreadable" in events
    assert results(project) == undisturbed[0]


def test_a_second_submit_beside_a_running_one_is_refused(project: Project) -> None:
    project.keep("main")
    project.change(*LONG)
    process = start(project)
    while not training(project):
        time.sleep(0.05)
    refused = project.run("submit", "small.toml", "--yes", status=2)
    assert "another lwspec" in refused.stderr
    os.kill(process.pid, signal.SIGTERM)
    process.wait(timeout=60)
