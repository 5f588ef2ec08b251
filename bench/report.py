"""How long a report takes over 10,000 runs and ten tables: the first time, and the second.

    python bench/report.py

The records are drawn at random into a temporary folder and thrown away: they measure the report and
say nothing of any model. Prints seconds, the second report as a ratio to the first, and megabytes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import pyarrow
from pyarrow import parquet

from lwspec.cli.session import open_session
from lwspec.engine.executors.submit import LOCAL, write_jobs
from lwspec.engine.job import Job
from lwspec.engine.runs.attempt import AttemptFolder
from lwspec.engine.runs.checksum import sha256_of
from lwspec.engine.runs.jsonfile import write_json
from lwspec.engine.runs.runfolder import Runs

SPECS = Path(__file__).parent.parent / "specs"
WRITES = ("--paper", "paper", "--html", "page.html")
EXPERIMENTS, POINTS, SEEDS, ITEMS = 10, 50, 5, 800


def large_spec(folder: Path) -> Path:
    """The quickstart with ten swept experiments, each in a table of its own with tests."""
    head = (SPECS / "quickstart.toml").read_text().split("[[experiment]]")[0]
    head = head.replace("seeds = [42, 123, 456]", f"seeds = {list(range(SEEDS))}")
    blocks = [head.replace("gpu_hours = 1.0", "gpu_hours = 1e6")]
    for number in range(EXPERIMENTS):
        points = [1 + number * POINTS + place for place in range(POINTS)]
        blocks.append(
            f'[[experiment]]\nname = "e{number}"\narms = ["bridge"]\n'
            f'sweep = {{ "bridge.latents" = {points} }}\n'
            "bridge = { layer = 2, width = 64, depth = 1, heads = 4 }\n\n"
            f'[[table]]\nname = "t{number}"\nexperiments = ["e{number}"]\n'
            f'compare = {{ to = "bridge (latents={points[0]})" }}\n'
        )
    blocks.append('[paper]\ntemplate = "paper.tex"\ntitle = "Ten tables"\n')
    (folder / "large.toml").write_text("\n".join(blocks))
    (folder / "paper.tex").write_text((SPECS / "paper.tex").read_text())
    return folder / "large.toml"


def write_runs(spec: Path, folder: Path) -> int:
    """One finished attempt at every job; returns how many."""
    runs = Runs(folder / "runs")
    session = open_session(spec, folder / "results.db", runs.path)
    jobs = session.plan.expansion.jobs
    write_jobs(session.plan, runs, dict.fromkeys(jobs, 60.0), LOCAL)
    source = numpy.random.default_rng(0)
    names = [f"item-{number}" for number in range(ITEMS)]
    for job in jobs.values():
        job_folder = runs.folder(job.id)
        attempt = job_folder.begin_attempt()
        started = {"command": f"run {job.id}", "hardware": "none", "git_sha": "0" * 40}
        write_json(attempt.path / "started.json", {"started_at": 0.0, "evidence": started})
        ended = {"outcome": "finished", "ended_at": 1.0, "wall_s": 1.0, "device_s": 1.0}
        for output in job.outputs:
            job_folder.take(attempt, output, record(job, attempt, source, names))
        write_json(attempt.path / "exit.json", ended)
    return len(jobs)


def record(
    job: Job, attempt: AttemptFolder, source: numpy.random.Generator, names: list[str]
) -> dict[str, object]:
    """An output's record; an evaluation's rests on random predictions."""
    made: dict[str, object] = {"files": {}, "finished_at": 1.0, "metrics": {}, "facts": {}}
    if job.step == "data":
        rows = {"train": 1000, "validation": 100, "test": ITEMS}
        made["facts"] = {"rows": rows, "left_out": 0}
    if job.kind == "fit":
        made["facts"] = {"samples": 1000}
    if job.kind == "evaluate":
        scores = (source.random(ITEMS) < source.normal(0.8, 0.02)).astype(float)
        path = attempt.path / "predictions" / "test.parquet"
        path.parent.mkdir()
        parquet.write_table(pyarrow.table({"item": names, "accuracy": scores}), path)
        made["files"] = {"predictions/test.parquet": sha256_of(path)}
        made["metrics"] = {"accuracy": float(scores.mean())}
        made["facts"] = {"n": ITEMS, "subset": False}
    return made


def report_s(spec: Path, folder: Path) -> float:
    """Wall seconds of one report: the paper and the page."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "lwspec", "report", spec.name, *WRITES],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def main() -> None:
    """Write the runs, report twice, print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = large_spec(folder)
        jobs = write_runs(spec, folder)
        os.sync()  # the runs' own writing is not the report's
        first, second = report_s(spec, folder), report_s(spec, folder)
        megabytes = (folder / "page.html").stat().st_size / 1e6
        print(f"jobs           {jobs:8,}")
        print(f"page           {megabytes:8.1f} MB")
        print(f"first report   {first:8.1f} s")
        print(f"second report  {second:8.1f} s, {second / first:.2f} of the first")


if __name__ == "__main__":
    main()
