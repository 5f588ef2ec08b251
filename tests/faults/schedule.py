"""Schedules of faults: what is drawn from a seed, and plans run under it, some at a time."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

from faults import truth
from faults.inject import Fault, Who
from faults.project import Project

ERRORS = ("ENOSPC", "EIO", "ESTALE")
HOUR, DAY = 3600.0, 86400.0
JUMPS = (-400 * DAY, -DAY, -HOUR, -2.0, 2.0, HOUR, DAY, 4000 * DAY)
WORKERS = 3 * (os.cpu_count() or 1)
"""Plans at a time: most of their time they wait for processes to start and end."""


@dataclass(frozen=True)
class Outcome:
    """What one plan went through, and what broke a promise."""

    plan: str
    jobs: int = 0
    struck: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    problems: tuple[str, ...] = ()
    seconds: float = 0.0


def drawn(source: random.Random) -> list[Fault]:
    """Faults of one command: perhaps one in itself, and one in most of its jobs' processes."""
    faults = [_drawn(source, "command", 200, 0)] if source.random() < 0.4 else []
    return faults + job_faults(source, 12)


def job_faults(source: random.Random, processes: int) -> list[Fault]:
    """A fault in most of the first processes that run jobs."""
    chosen = [n for n in range(1, processes + 1) if source.random() < 0.8]
    return [_drawn(source, "job", 60, process) for process in chosen]


def _drawn(source: random.Random, who: Who, steps: int, process: int) -> Fault:
    step, half = 1 + source.randrange(steps), source.random() < 0.5
    kind = source.choices(("kill", "moment", "error", "clock"), (5, 2, 2, 2))[0]
    if kind == "moment":
        longest_s = 0.8 if who == "command" else 0.1
        return Fault(who, "kill", process=process, after_s=source.uniform(0.0, longest_s))
    if kind == "error":
        row = source.choice((1, 1, 3, 1000))
        return Fault(who, source.choice(ERRORS), step, process, half, steps=row)
    if kind == "clock":
        return Fault(who, "clock", step, process, shift_s=source.choice(JUMPS))
    return Fault(who, "kill", step, process, half)


def kind_of(struck: dict[str, object]) -> str:
    """What a fault is counted as."""
    do, at = struck["do"], struck["at"]
    if "step" not in struck:
        return f"{at} {do}"
    if do == "clock":
        return "clock moved"
    if do == "kill":
        when = "at a random moment" if struck["after_s"] is not None else "at a step"
        who = {"command": "command line", "job": "job's process"}[str(at)]
        return f"kill -9 of the {who} {when}"
    what = "the database" if struck["what"] in ("statement", "commit") else "a file"
    torn = ", half written" if struck["half"] and struck["what"] == "write" else ""
    return f"{do} on {what}{torn}"


def outcome(project: Project, plan: str, begun: float) -> Outcome:
    """Sum up a plan, and drop its folder where nothing is wrong."""
    rows = truth.tables(project.folder / "results.db")
    found = Outcome(
        plan,
        len(rows["jobs"]),
        Counter(kind_of(each) for each in project.struck),
        Counter(str(row["outcome"] or "killed") for row in rows["attempts"]),
        tuple(f"{plan}: {problem} ({project.folder})" for problem in project.problems),
        time.monotonic() - begun,
    )
    project.remove()
    return found


def all_of(plan: Callable[[int], Outcome], numbers: Sequence[int]) -> list[Outcome]:
    """Run plans by their numbers, as many at a time as there are workers."""
    with ProcessPoolExecutor(WORKERS, get_context("fork")) as pool:
        return list(pool.map(plan, numbers))


def problems(outcomes: Iterable[Outcome]) -> str:
    """What broke a promise, as a test prints it."""
    return "\n".join(problem for each in outcomes for problem in each.problems)


def seed() -> int:
    """Of all schedules: LWSPEC_FAULT_SEED, or 1."""
    return int(os.environ.get("LWSPEC_FAULT_SEED", "1"))
