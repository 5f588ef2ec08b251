"""Plans of the counting arm under faults: at every step, at random ones, and on a full disk."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from faults import truth
from faults.inject import Fault
from faults.project import Project, damage
from faults.schedule import ERRORS, Outcome, drawn, job_faults, outcome, seed

ROUNDS = 4
VERBS = ("submit", "submit", "submit", "submit", "retry", "status", "cancel")
PAGE = 4096


def command_step(step: int) -> Outcome:
    """The command line is killed at one step of `submit`; the next meets an error at that step."""
    source, begun = random.Random(f"{seed()} step {step}"), time.monotonic()
    project = Project()
    project.submit(Fault("command", "kill", step))
    truth.look(project)
    project.submit(Fault("command", ERRORS[step % 3], step), *job_faults(source, 4))
    truth.look(project)
    return _ended(project, f"command at step {step}", begun)


def command_steps() -> int:
    """How many steps an undisturbed `submit` has."""
    project = Project()
    steps = project.submit().steps
    project.remove()
    return steps


def job_steps(number: int) -> Outcome:
    """One process after another that runs jobs meets its fault, each a step further than the last.

    Until a job is done before its step comes; a pack that twice in a row could not begin an attempt
    is left to the next command.
    """
    do = ("kill", *ERRORS)[number]
    begun, project, step = time.monotonic(), Project(), 1
    while True:
        faults = [Fault("job", do, step + n, 1 + n, half=n % 2 == 1) for n in range(150)]
        struck = len(project.submit(*faults).struck)
        truth.look(project)
        step += struck
        if not struck or project.problems:
            return _ended(project, f"jobs at every step: {do}", begun)


def fit_step(step: int) -> Outcome:
    """A fit is killed at one of its steps, then meets an error at it, then the evaluation both."""
    begun, project = time.monotonic(), Project()
    told = [(2, "kill"), (3, ERRORS[step % 3]), (4, "kill"), (5, ERRORS[step % 3])]
    project.submit(*[Fault("job", do, step, process, half=True) for process, do in told])
    truth.look(project)
    return _ended(project, f"jobs at step {step}", begun)


def randomly(number: int) -> Outcome:
    """Commands, each with several faults; then what is left is done and all is checked."""
    source, begun = random.Random(f"{seed()} random {number}"), time.monotonic()
    project = Project(seeds=2)
    for _ in range(ROUNDS):
        verb = source.choice(VERBS)
        agreed = ["--yes"] if verb in ("submit", "retry") else []
        ended = project.run(verb, "small.toml", *agreed, faults=drawn(source))
        truth.look(project)
        if verb == "submit" and ended.status == 0:
            project.grow()
        cache = project.runs / "cache" / "fingerprints.json"
        if cache.exists() and source.random() < 0.2:
            project.struck.append({"do": damage(cache, source), "at": "fingerprints.json"})
    return _ended(project, f"random {number}", begun)


def full_disk(number: int) -> Outcome:
    """A file system of its own that runs full while a plan runs, and gets room again."""
    source, begun = random.Random(f"{seed()} disk {number}"), time.monotonic()
    place = Path(tempfile.mkdtemp(prefix="faults-disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", place], check=True)
    try:
        project = Project(seeds=2, folder=place)
        for _ in range(ROUNDS):
            _fill(place / "ballast", PAGE * source.randrange(60))
            ended = project.submit()
            (place / "ballast").unlink()
            project.struck.append({"do": "full", "at": "disk"})
            truth.look(project)
            if ended.status == 0:
                project.grow()
        return _ended(project, f"full disk {number}", begun)
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
        place.rmdir()


def _fill(ballast: Path, left: int) -> None:
    """Write a file until only so many bytes are free."""
    with ballast.open("wb", buffering=0) as file:
        file.write(b"0" * (shutil.disk_usage(ballast.parent).free - left))


def may_mount() -> bool:
    """Whether a file system of one's own can be had here."""
    place = Path(tempfile.mkdtemp(prefix="faults-disk-"))
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "none", place], capture_output=True)
        if done.returncode == 0:
            subprocess.run(["umount", place], check=True)
        return done.returncode == 0
    except OSError:
        return False
    finally:
        place.rmdir()


def _ended(project: Project, name: str, begun: float) -> Outcome:
    project.finish()
    truth.check(project)
    return outcome(project, name, begun)
