"""Incidents of shells, clusters and broken files: what never ran, and said nothing.

docs/reliability.md lists all forty; each test is named after its number there.
"""

from __future__ import annotations

import ast
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import ENVIRONMENT, ROOT
from incidents import Copy, entries, jobs, lwspec, owed, record, tables_alone

from lwspec.engine.executors.slurm import sbatch

NAMES_OF_CHANCE = {"normal", "uniform", "random", "rand", "randn", "gauss", "standard_normal"}


def test_incident_23_a_job_that_cannot_start_says_so_and_flags_are_checked_first(
    copy_of_finished: Copy, tmp_path: Path
) -> None:
    project = copy_of_finished()
    wrong = lwspec(project, "submit", "small.toml", "--output_dir", "out", status=2)
    assert "unrecognized arguments: --output_dir" in wrong.err
    folder = jobs(project, "evaluate")["truncated colour"]
    command = shlex.split(record(folder / "job.json")["command"])
    assert command[0] == sys.executable  # the Python that planned, whatever the node's own is
    for name in ("taken", "attempt-1"):
        shutil.rmtree(folder / name)
    (tmp_path / "none").mkdir()
    (tmp_path / "none/torch.py").write_text('raise ModuleNotFoundError("No module named torch")')
    path = os.pathsep.join([str(tmp_path / "none"), str(ROOT)])
    environment = {**ENVIRONMENT, "PYTHONPATH": path}
    ran = subprocess.run(command, cwd=project.folder, env=environment, capture_output=True)
    assert ran.returncode == 1
    ended = record(folder / "attempt-1/exit.json")
    assert ended["outcome"] == "code"
    assert "No module named torch" in ended["message"]
    shown = lwspec(project, "status", "small.toml", "--json", status=1).out
    states = {job["label"]: job["state"] for job in json.loads(shown)["jobs"]}
    assert states["truncated colour"] == "failed"


def test_incident_24_a_script_is_whole_bash_and_a_job_that_only_began_is_not_done(
    copy_of_finished: Copy, tmp_path: Path
) -> None:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "srun").write_text('#!/bin/bash\nprintf "%s\\n" "$@" > "$ARGUMENTS"\n')
    (bin_ / "srun").chmod(0o755)
    folder = tmp_path / "it's ${$((1+1))} $(touch let-in)"
    folder.mkdir()
    script = tmp_path / "job.sh"
    parameters = {"job_name": "a", "time": 5, "setup": ["export THERE=${HOME:-/tmp}"]}
    script.write_text(sbatch.text(parameters, 2, folder))
    environment = {"PATH": f"{bin_}:/usr/bin:/bin", "ARGUMENTS": str(tmp_path / "arguments")}
    ran = subprocess.run(["bash", script], cwd=tmp_path, env=environment, capture_output=True)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert (tmp_path / "arguments").read_text().splitlines()[-1] == str(folder.resolve())
    assert not (tmp_path / "let-in").exists()
    project = tables_alone(copy_of_finished())
    begun = jobs(project, "evaluate")["truncated colour"]
    shutil.rmtree(begun / "taken")
    for name in ("exit.json", "outputs", "predictions", "evaluation.json"):
        path = begun / "attempt-1" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (begun / "attempt-1/gpu_usage.csv").write_text("0,0\n")
    assert owed(project) == {"evaluate truncated colour"}
    assert entries(project)["truncated"]["status"] == "not run"


def test_incident_25_every_module_is_python_and_no_report_draws_its_numbers() -> None:
    modules = sorted((ROOT / "lwspec").rglob("*.py"))
    assert len(modules) > 150
    for path in modules:
        tree = ast.parse(path.read_text(), str(path))
        part = path.relative_to(ROOT / "lwspec").parts[0]
        if part not in ("report", "engine", "cli"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names]
                assert "random" not in [*names, getattr(node, "module", None)], path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in NAMES_OF_CHANCE, (path, node.lineno)
    listed = subprocess.run(
        ["git", "ls-files", "lwspec"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not [name for name in listed if Path(name).suffix in (".broken", ".bak", ".orig")]
