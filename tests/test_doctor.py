"""What `lwspec doctor` says of this machine, and of ones that lack something."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from conftest import ENVIRONMENT, Project


def doctor(project: Project, *arguments: str, **environment: str) -> tuple[int, str]:
    """Exit status and what was said, in single spaces."""
    done = subprocess.run(
        project.command("doctor", *arguments),
        cwd=project.folder,
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, "COLUMNS": "200", **environment},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, " ".join(done.stdout.split())


def test_what_is_missing_is_said_with_what_mends_it(project: Project, tmp_path: Path) -> None:
    empty = tmp_path / "programs"
    empty.mkdir()
    status, said = doctor(project, "small.toml", PATH=str(empty))
    assert status == 0
    assert "slurm not on this machine: submit runs jobs here" in said
    assert "latex no latexmk mend: apt install latexmk" in said
    assert "GB free for runs" in said
    assert "model" not in said.split("hub")[0].split("latex")[1]


def test_a_hub_that_does_not_answer_is_said_of_each_model(project: Project) -> None:
    project.change('path = "models/llama"', 'path = "some/where"')
    _, said = doctor(project, "small.toml", HF_HUB_OFFLINE="1")
    assert "model some/where: the hub does not answer (OfflineModeIsEnabled)" in said
    assert "models/mistral" not in said


def test_a_torch_that_cannot_be_imported_is_broken(project: Project, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.12: cannot open')\n")
    path = os.pathsep.join([str(tmp_path), ENVIRONMENT["PYTHONPATH"]])
    status, said = doctor(project, PYTHONPATH=path)
    assert status == 1
    assert "no torch ImportError: libcudart.so.12: cannot open" in said


def test_a_wrong_spec_is_said_as_everywhere(project: Project) -> None:
    project.change('dtype = "float32"', 'dtype = "float31"')
    project.run("doctor", "small.toml", status=2)
