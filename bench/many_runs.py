"""100,000 runs and 10 million metric points: how long they take to record, and a status of them.

    python bench/many_runs.py docs/reliability_scale.md

The run folders hold the files that jobs write, with numbers that are drawn at random, and are
thrown away: they measure the engine and say nothing of any model. Writes the section "Many runs".
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from section import replace_section

from lwspec.engine.job import Job
from lwspec.engine.plan import cost
from lwspec.engine.plan.expand import expand
from lwspec.engine.plan.fingerprint import Fingerprints
from lwspec.engine.plan.locate import locate
from lwspec.engine.runs import evidence
from lwspec.engine.runs.jsonfile import write_json
from lwspec.engine.runs.process import this_process
from lwspec.engine.runs.runfolder import Runs
from lwspec.engine.spec.load import load
from lwspec.kernels.arms import declarations

SPECS = Path(__file__).parent.parent / "specs"
PAPERS, SEEDS, POINTS = 250, 100, 200
"""Specs, seeds of each (two tasks, a fit and an evaluation), and metric points of a fit."""
PROGRESS = 20
"""Events of progress of every run."""
LOOKS = 7


@dataclass(frozen=True)
class Written:
    """What was written."""

    runs: int
    events: int
    points: int


@dataclass(frozen=True)
class Cost:
    """Of a command: wall and processor seconds, and the most memory that it held."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def write_spec(folder: Path, number: int) -> Path:
    """The quickstart's bridge with seeds of its own."""
    seeds = list(range(number * SEEDS, (number + 1) * SEEDS))
    text = (SPECS / "quickstart.toml").read_text()
    text = text.replace("seeds = [42, 123, 456]", f"seeds = {seeds}")
    text = text.replace('name = "quickstart"', f'name = "paper{number}"')
    head, main, *_ = text.split("[[experiment]]")
    table = '[[table]]\nname = "main"\nexperiments = ["main"]\n'
    path = folder / f"paper{number}.toml"
    path.write_text(f"{head}[[experiment]]{main}{table}")
    return path


def write_runs(folder: Path) -> Written:
    """One finished attempt at every job of every spec."""
    os.fsync = lambda _: None  # type: ignore[assignment]  # how long writing takes is not measured
    runs, arms = Runs(folder / "runs"), declarations(())
    fingerprints = Fingerprints(runs.path / "cache" / "fingerprints.json")
    source, said, written = random.Random(0), started(), Written(0, 0, 0)
    for number in range(PAPERS):
        loaded = load(write_spec(folder, number), arms)
        for job in expand(loaded, arms, locate(loaded, fingerprints)).jobs.values():
            if not runs.folder(job.id).path.exists():
                events, points = write_run(runs, job, loaded.spec.name, said, source)
                written = Written(
                    written.runs + 1, written.events + events, written.points + points
                )
    os.sync()
    return written


def started() -> dict[str, object]:
    """What jobs say when they begin."""
    return {
        **evidence.machine(),
        "gpu": None,
        "hardware": evidence.machine()["cpu"],
        "process": this_process(),
        "packages": evidence.packages(),
        "source_files": evidence.source_files(),
        "side_by_side": 1,
        "cost_version": cost.VERSION,
    }


def write_run(
    runs: Runs, job: Job, spec: str, said: dict[str, object], source: random.Random
) -> tuple[int, int]:
    """A finished attempt at a job; how many events and points it has."""
    folder = runs.folder(job.id)
    granted = {"spec": spec, "allowance_s": 300.0, "granted_at": 0.0, "modelled_s": 60.0}
    write_json(folder.path / "job.json", {**job.to_json(), **granted, "executor": "local"})
    attempt = folder.begin_attempt()
    begun = {"spec": spec, "started_at": 1.0, "charge": job.charge, "modelled_s": 60.0}
    write_json(attempt.path / "started.json", {**begun, "evidence": said})
    points = POINTS if job.kind == "fit" else 0
    events: list[dict[str, object]] = [{"event": "started"}]
    for step in range(points):
        events.append({"event": "metric", "step": step, "values": {"train_loss": source.random()}})
    for done in range(PROGRESS):
        share = {"done": done, "total": PROGRESS, "what": "epoch 1", "device_s": done / PROGRESS}
        events.append({"event": "progress", **share})
    events += [{"event": "output", "output": name} for name in job.outputs]
    events.append({"event": "finished", "outcome": "finished"})
    lines = [json.dumps({"time": 1.0 + place, **event}) for place, event in enumerate(events)]
    (attempt.path / "events.jsonl").write_text("\n".join(lines) + "\n")
    for output in job.outputs:
        metrics = {"accuracy": source.random()}
        made = {"files": {}, "finished_at": 2.0, "metrics": metrics, "facts": {"n": 800}}
        folder.take(attempt, output, made)
    ended = {"outcome": "finished", "ended_at": 2.0, "wall_s": 1.0, "device_s": 1.0}
    write_json(attempt.path / "exit.json", ended)
    return len(events), points


def status(folder: Path, spec: str, db: str = "results.db", runs: str = "runs") -> Cost:
    """One `lwspec status`, from the shell's start to its end."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "lwspec", "status", spec, "--db", db, "--runs", runs]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, ended, used = os.wait4(process.pid, 0)
    if ended:
        raise SystemExit(f"{' '.join(command)}: {ended}")
    wall_s = time.perf_counter() - start
    return Cost(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def median(costs: list[Cost]) -> Cost:
    """The median of each."""
    columns = zip(*((c.wall_s, c.cpu_s, c.peak_mib) for c in costs), strict=True)
    return Cost(*map(statistics.median, columns))


def measure(folder: Path, written: Written) -> list[str]:
    """Record everything, look again and again, and say what it took."""
    spec = "paper0.toml"
    first = status(folder, spec)
    same = median([status(folder, spec) for _ in range(LOOKS)])
    bare = median([status(folder, spec, "bare.db", "bare") for _ in range(LOOKS)])
    plan = folder / "runs" / "plans" / "other.submitted.json"
    empty = {"spec_path": "other.toml", "digest": "0", "jobs": {}, "cells": []}
    write_json(plan, {"spec": "other", **empty})
    submitted = status(folder, spec)
    size = (folder / "results.db").stat().st_size
    rate = written.events / first.wall_s
    rows = [
        ("the first status, which records all of them", first),
        ("a status when nothing has changed", same),
        ("the first status after a plan was submitted", submitted),
        ("a status of the same spec with no runs at all", bare),
    ]
    lines = ["| | wall, s | processor, s | peak memory, MiB |", "|---|---|---|---|"]
    lines += [f"| {what} | {c.wall_s:.2f} | {c.cpu_s:.2f} | {c.peak_mib:.0f} |" for what, c in rows]
    return [
        f"{written.runs:,} runs of {PAPERS} specs, {written.events:,} events, among them "
        f"{written.points:,} metric points; a status of one spec of {4 * SEEDS} jobs and those "
        f"that all specs share. {os.cpu_count()} cores of {evidence.machine()['cpu']}, a local "
        "disk, files in memory.",
        "",
        *lines,
        "",
        f"Recorded at {rate:,.0f} events a second of wall time, "
        f"{written.events / first.cpu_s:,.0f} of the processor's; the database holds "
        f"{size / 1e9:.2f} GB.",
    ]


def main() -> None:
    """Write the runs, measure, and write the section."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = measure(folder, write_runs(folder))
    print("\n".join(lines))
    replace_section(Path(sys.argv[1]), "Many runs", "\n".join(lines))


if __name__ == "__main__":
    main()
