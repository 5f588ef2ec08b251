"""What `lwspec submit` shows in a terminal while jobs run."""

from __future__ import annotations

import os
import pty
import subprocess

from conftest import ENVIRONMENT, Project


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
