"""What packs and stored states save of a plan on a CPU: CPU seconds with both, and without either.

    python bench/whole_plan.py SPEC GLOB [DOCUMENT]

GLOB chooses jobs by their labels. With both, they are run as `lwspec submit` runs them. Without
either, each job has a process of its own, and each that reads the sender's states, pooled states or
texts has the sender make what it reads anew. Rows and toy models are made beforehand and not
counted. Prints CPU seconds, their ratio, and how far the predictions agree.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

from pyarrow import parquet
from section import replace_section

from lwspec.cli.session import open_session
from lwspec.engine.executors.submit import LOCAL, write_jobs
from lwspec.engine.job import Job
from lwspec.engine.plan.pack import in_order, packs
from lwspec.engine.plan.plan import Plan
from lwspec.engine.runs.evidence import machine
from lwspec.engine.runs.runfolder import Runs

SENT = {"states", "pooled", "text"}
"""What the sender makes, and a job may read."""


def cpu_s() -> float:
    """Of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(runs: Path, ids: Sequence[str]) -> None:
    """Jobs in one process, as an executor starts them."""
    command = [sys.executable, "-m", "lwspec.kernels.run", *(str(runs / id) for id in ids)]
    subprocess.run(command, check=True)


def write(plan: Plan, runs: Path, jobs: Sequence[Job]) -> None:
    """Their folders, with allowances that nothing reaches."""
    write_jobs(plan, Runs(runs), {job.id: 1e6 for job in jobs}, LOCAL)


def chosen_jobs(plan: Plan, glob: str) -> list[Job]:
    """Those that match, and all that they need, inputs first."""
    jobs = plan.expansion.jobs
    wanted = {job.id for job in jobs.values() if fnmatch(job.label, glob)}
    todo = list(wanted)
    while todo:
        todo = [
            source for id in todo for source in jobs[id].inputs.values() if source not in wanted
        ]
        wanted.update(todo)
    assert wanted, f"no job matches {glob}"
    return [job for job in in_order(jobs, wanted) if not job.alone]


def with_both(plan: Plan, runs: Path, jobs: Sequence[Job]) -> float:
    """Packs, and the sender's outputs once."""
    before = cpu_s()
    for pack in packs(jobs, plan.loaded.spec.resources.side_by_side):
        run(runs, [job.id for job in pack.jobs])
    return cpu_s() - before


def without(plan: Plan, runs: Path, jobs: Sequence[Job]) -> float:
    """A process for each job, and the sender's outputs anew for each that reads them."""
    before = cpu_s()
    for job in jobs:
        if job.step in SENT:
            continue
        for role in SENT & set(job.inputs):
            made = plan.expansion.jobs[job.inputs[role]]
            shutil.rmtree(runs / made.id, ignore_errors=True)
            _write_one(plan, runs, replace(made, outputs=job.reads[role]))
            run(runs, [made.id])
        run(runs, [job.id])
    return cpu_s() - before


def _write_one(plan: Plan, runs: Path, job: Job) -> None:
    """The folder of a job that owes these outputs alone."""
    alone = replace(plan.expansion, jobs={**plan.expansion.jobs, job.id: job})
    write(replace(plan, expansion=alone), runs, [job])


def predictions(folder: Path) -> list[object] | None:
    """What an evaluation answered, row by row: its labels, or what it wrote."""
    files = list(folder.glob("attempt-*/predictions/*.parquet"))
    if not files:
        return None
    table = parquet.read_table(files[0])
    found: list[object] = table.column(
        "predicted" if "predicted" in table.column_names else "written"
    ).to_pylist()
    return found


def agreement(one: Path, other: Path, jobs: Sequence[Job]) -> tuple[int, int, float]:
    """Equal answers, all answers, and the most points by which an evaluation's share differs."""
    equal = everything = 0
    worst = 0.0
    for job in jobs:
        first, second = predictions(one / job.id), predictions(other / job.id)
        if first is None or second is None:
            continue
        same = sum(a == b for a, b in zip(first, second, strict=True))
        equal, everything = equal + same, everything + len(first)
        worst = max(worst, 100 * (1 - same / len(first)))
    return equal, everything, worst


def main() -> None:
    """Run the jobs both ways from the same beginning, print, and write the section."""
    spec, glob = Path(sys.argv[1]).resolve(), sys.argv[2]
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = open_session(spec, folder / "results.db", folder / "on").plan
        jobs = chosen_jobs(plan, glob)
        first = [job for job in jobs if job.step in ("data", "toy")]
        rest = [job for job in jobs if job not in first]
        write(plan, folder / "on", jobs)
        for job in first:
            run(folder / "on", [job.id])
        shutil.copytree(folder / "on", folder / "off")
        on = with_both(plan, folder / "on", rest)
        off = without(plan, folder / "off", rest)
        equal, everything, worst = agreement(folder / "on", folder / "off", rest)
    lines = [
        f"`specs/{spec.name}`, the {len(rest)} jobs whose labels match `{glob}` and what they "
        f"need, on {machine()['cpu']}.\n",
        "| | CPU seconds |",
        "|---|---|",
        f"| packs, the sender's states stored | {on:.0f} |",
        f"| a process for each job, the sender's states made anew for each | {off:.0f} |",
        f"| ratio | {off / on:.2f} |",
        f"\n{equal:,} of {everything:,} answers agree ({equal / everything:.2%}); at most "
        f"{worst:.2f} per cent differ in one evaluation.",
    ]
    print("\n".join(lines))
    if len(sys.argv) > 3:
        replace_section(Path(sys.argv[3]), "A plan on a CPU", "\n".join(lines))


if __name__ == "__main__":
    main()
