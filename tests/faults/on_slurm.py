"""Submissions to SLURM under faults: an array is intended, sent and recorded, each exactly once."""

from __future__ import annotations

import random
import time
from collections import Counter

from faults import truth
from faults.inject import Fault
from faults.project import Project
from faults.schedule import ERRORS, Outcome, job_faults, outcome, seed

from lwspec.engine.executors.slurm.submission import submissions
from lwspec.engine.runs.runfolder import Runs

SUBMIT = ("submit", "small.toml", "--executor", "slurm", "--no-snapshot", "--yes")


def steps() -> int:
    """How many steps an undisturbed submission has."""
    project = Project()
    taken = project.run(*SUBMIT).steps
    assert not project.problems, project.problems
    project.remove()
    return taken


def submission_step(step: int) -> Outcome:
    """The command line is killed at one step; the next meets an error there; then all is quiet."""
    source, begun = random.Random(f"{seed()} slurm {step}"), time.monotonic()
    project = Project()
    project.run(*SUBMIT, faults=[Fault("command", "kill", step)])
    time.sleep(0.2)  # what sbatch may take
    project.run(*SUBMIT, faults=[Fault("command", ERRORS[step % 3], step)])
    project.run(*SUBMIT)
    held = _sent(project)
    if doubled := [job for job, count in held.items() if count > 1]:
        project.problems.append(f"submitted twice: {doubled}")
    if not held:
        project.problems.append("nothing was submitted")
    _drain(project, source)
    project.finish()
    truth.check(project)
    return outcome(project, f"submission to SLURM at step {step}", begun)


def _sent(project: Project) -> Counter[str]:
    """How often each job was given to the cluster."""
    arrays = project.home / "arrays"
    lines = arrays.read_text().splitlines() if arrays.exists() else []
    known = {each.name: each for each in submissions(Runs(project.runs))}
    named = [known[line.partition("|")[0]] for line in lines]
    return Counter(job for each in named for jobs in each.elements for job in jobs)


def _drain(project: Project, source: random.Random) -> None:
    """Run what the cluster holds, in the order in which it was sent; jobs meet faults."""
    for number, line in enumerate((project.home / "arrays").read_text().splitlines(), start=1):
        name, _, last = line.partition("|")
        for element in range(int(last) + 1):
            where = str(project.runs / "submissions" / name)
            faults = job_faults(source, 2)
            project.run("allocation", where, str(element), faults=faults)
            truth.look(project)
            (project.home / f"{number}_{element}.ran").touch()
