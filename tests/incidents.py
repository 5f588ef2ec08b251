"""What tests of the forty incidents share: commands in this process, and ways into a project."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from conftest import Project
from pyarrow import parquet

from lwspec.cli import main
from lwspec.cli.report import read_content
from lwspec.cli.session import open_session
from lwspec.engine.executors.submit import LOCAL, write_jobs
from lwspec.engine.plan.expand import Expansion
from lwspec.engine.plan.pack import in_order
from lwspec.engine.runs.checksum import KEY, with_checksum
from lwspec.engine.runs.runfolder import JobFolder
from lwspec.kernels.attempt import StopFlag
from lwspec.kernels.run import run_jobs
from lwspec.report.content import Content

Copy = Callable[[], Project]


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str


def lwspec(project: Project, *arguments: str, status: int = 0) -> Said:
    """Run `lwspec ...` in the project's folder, in this process, and check its exit status."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(project.folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            ended = main(list(arguments))
        except SystemExit as unparsed:  # argparse's
            ended = int(unparsed.code or 0)
    said = Said(ended, out.getvalue(), err.getvalue())
    assert ended == status, said
    return said


def plan(project: Project, status: int = 0) -> dict[str, Any]:
    """The plan as JSON."""
    told: dict[str, Any] = json.loads(
        lwspec(project, "plan", "small.toml", "--json", status=status).out
    )
    return told


def owed(project: Project) -> set[str]:
    """Kind and label of the jobs that a plan would still run."""
    return {f"{job['kind']} {job['label']}" for job in plan(project)["jobs"] if job["owed"]}


def tables_alone(project: Project) -> Project:
    """Leave figures and template out of the spec: nothing is drawn, LaTeX is not run."""
    head, _, _ = project.spec.read_text().partition("[[figure]]")
    project.write(head)
    return project


def add(project: Project, text: str) -> None:
    """Add tables to the end of the spec."""
    project.write(f"{project.spec.read_text()}\n{text}\n")


def entries(project: Project, table: str = "main") -> dict[str, dict[str, str]]:
    """Report, and read a table's CSV: row to its line."""
    lwspec(project, "report", "small.toml", "--paper", "paper")
    with (project.folder / f"paper/tables/{table}.csv").open() as file:
        return {line["row"]: line for line in csv.DictReader(file)}


def content(project: Project) -> Content:
    """What a report would show."""
    with contextlib.chdir(project.folder):
        return read_content(open_session(project.spec, Path("results.db"), Path("runs")))


def record(path: Path) -> dict[str, Any]:
    """A JSON file of a run folder."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file, and its checksum with them where it has one."""
    changed = {**record(path), **changes}
    path.write_text(json.dumps(with_checksum(changed) if KEY in changed else changed))


def jobs(project: Project, kind: str) -> dict[str, Path]:
    """Label to folder of every job of a kind that was submitted."""
    found = project.runs.glob(f"{kind}-*/job.json")
    return {record(path)["label"]: path.parent for path in found}


def predictions(folder: Path) -> list[dict[str, Any]]:
    """The stored predictions of an evaluation."""
    path = folder / "attempt-1/predictions/test.parquet"
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


def accuracy(folder: Path) -> float:
    """Of an evaluation, in per cent, counted from its predictions."""
    rows = predictions(folder)
    return 100 * sum(row["predicted"] == row["label"] for row in rows) / len(rows)


def run_here(project: Project, only: str = "*") -> dict[str, JobFolder]:
    """Run in this process what a submit would run; label to folder, in the order of running."""
    with contextlib.chdir(project.folder):
        session = open_session(project.spec, Path("results.db"), Path("runs"))
        whole = session.plan
        wanted = [
            job
            for job in in_order(whole.expansion.jobs, set(whole.to_run))
            if fnmatch(job.label, only)
        ]
        write_jobs(
            whole, session.runs, {job.id: whole.allowance_s(job.id) for job in wanted}, LOCAL
        )
        for job in wanted:
            run_jobs([session.runs.folder(job.id)], StopFlag())
    return {job.label: JobFolder(project.runs / job.id) for job in wanted}


def ended(folder: JobFolder) -> dict[str, Any]:
    """How the newest attempt at a job ended."""
    return folder.attempts()[-1].ended() or {}


def expansion(project: Project) -> Expansion:
    """Cells and jobs of the spec."""
    with contextlib.chdir(project.folder):
        return open_session(project.spec, Path("results.db"), Path("runs")).plan.expansion
