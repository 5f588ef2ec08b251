"""What `lwspec submit` shows in a terminal while jobs run."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

from conftest import ENVIRONMENT, Project

from lwspec.cli.progress import in_lines
from lwspec.engine.executors.local import Running, Tick
from lwspec.engine.job import Job
from lwspec.engine.plan.pack import Pack
from lwspec.engine.runs.runfolder import Runs


def test_submit_draws_bars_in_a_terminal(project: Project) -> None:
    project.keep("direct")
    ours, theirs = pty.openpty()
    command = project.command("submit", "small.toml", "--yes", "--only", "data*")
    with subprocess.Popen(
        command, cwd=project.folder, stdin=theirs, stdout=theirs, stderr=theirs,
        env={**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "100"},
    ) as process:  # fmt: skip
        os.close(theirs)
        said = b""
        try:
            while more := os.read(ours, 65536):
                said += more
        except OSError:
            pass  # the other end was closed
    os.close(ours)
    shown = said.decode()
    assert process.returncode == 0, shown
    assert "Traceback" not in shown
    assert "jobs" in shown
    assert "0/1" in shown
    assert "1 of 1 jobs done" in shown
    logged = project.run("logs", "data", "--spec", "small.toml").stdout.splitlines()
    assert re.fullmatch(r"result after [0-9.]+ s: [a-z_0-9, ]+", logged[-1]), logged  # and no bars
    assert len(logged) == 3


def test_a_line_tells_what_has_ended_from_what_runs(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    jobs = [Job(f"fit-{n}", "fit", "bridge", {}, {}, ("x",), f"s{n}", {}) for n in range(4)]
    ended = Running(Pack("a", tuple(jobs[:3])), None, (), 0)
    for job in jobs[:3]:
        folder = runs.folder(job.id)
        output = {"files": {}, "metrics": {}, "facts": {}, "finished_at": 1.0}
        folder.take(folder.begin_attempt(), "x", output)
    said: list[str] = []
    with in_lines(runs, said.append) as observe:
        observe(Tick(4, (), 0, 0, (Running(Pack("b", (jobs[3],)), None, (), 0),)))
        observe(Tick(4, tuple(jobs[:3]), 0, 0, (ended,)))
        observe(Tick(4, tuple(jobs[:3]), 1, 0, ()))
        observe(Tick(4, tuple(jobs), 1, 0, ()))
    assert said == [
        "0/4 done · running: fit s3",
        "3/4 done · done: fit s0, fit s1, 1 more · none running",
        "3/4 done · 1 failed · none running",
        "4/4 done · 1 failed · done: fit s3 · none running",
    ]
