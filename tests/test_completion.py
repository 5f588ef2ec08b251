"""What a shell completes, asked as a real bash asks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

from lwspec.cli import main

Ask = Callable[[str], list[str]]

ASKED = """\
. "$2"
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9
_python_argcomplete lwspec
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def ask(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Ask:
    """Asks bash what a line could go on with, in a folder with a new spec."""
    monkeypatch.chdir(tmp_path)
    assert main(["init", "small.toml"]) == 0
    programs = tmp_path_factory.mktemp("bin")
    script = programs / "lwspec"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m lwspec "$@"\n')
    script.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }

    code = subprocess.run(
        ["lwspec", "completion", "bash"], env=environment, capture_output=True, check=True
    ).stdout
    (programs / "completion").write_bytes(code)

    def asked(line: str) -> list[str]:
        done = subprocess.run(
            ["bash", "-c", ASKED, "bash", line, str(programs / "completion")],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return [found.strip() for found in done.stdout.splitlines() if found.strip()]

    return asked


def test_verbs_options_and_specs(ask: Ask) -> None:
    assert ask("lwspec pl") == ["plan"]
    assert ask("lwspec status --w") == ["--watch"]
    assert ask("lwspec plan s") == ["small.toml"]
    assert ask("lwspec completion ") == ["bash", "zsh", "fish"]


def test_labels_of_the_plan_that_was_shown_last(ask: Ask) -> None:
    assert ask("lwspec logs fi") == []
    assert main(["plan", "small.toml"]) == 0
    labels = {rf"fit\ bridge\ sentiment\ s{seed}" for seed in (42, 123, 456)}
    assert set(ask(r"lwspec logs fit\ b")) == labels
    Path("runs/plans/last.json").write_text("{")  # a shell at its prompt is told nothing of it
    assert ask("lwspec retry --only fi") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_its_own_code(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    code = capsys.readouterr().out
    assert "lwspec" in code
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: its code was not parsed")
    subprocess.run([shell, "-n"], input=code, text=True, check=True)
