"""`lwspec bench`: measure what this machine does a second, for the prices of plans."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

from rich.console import Console

from lwspec.engine.plan.cost import ASSUMED, START_S, Machine
from lwspec.engine.plan.machines import Benched, keep
from lwspec.engine.plan.price import unit_of
from lwspec.engine.runs import evidence
from lwspec.engine.runs.runfolder import Runs
from lwspec.errors import UsageError


def main(options: argparse.Namespace) -> int:
    """Measure, record in the run folders, and show beside what plans assume until then.

    Raises UsageError for more threads than there are, or a GPU of a kind that no budget counts in.
    """
    cores = len(os.sched_getaffinity(0))
    if not 1 <= options.threads <= cores:
        raise UsageError(
            f"--threads {options.threads}: this machine has {cores}",
            remedy="give it resources.threads of the spec that is to be priced",
        )
    runs = Runs(options.runs)
    runs.path.mkdir(parents=True, exist_ok=True)
    found = _measured(runs, options.threads)
    unit = unit_of(found["gpu"])
    if unit is None:
        raise UsageError(
            f"no budget counts in {found['gpu']}", remedy=f"it counts in {', '.join(ASSUMED)}"
        )
    here, code = evidence.machine(), evidence.git_state(evidence.PACKAGE.parent)
    facts = {
        **here,
        "command": ["lwspec", "bench", "--threads", str(options.threads)],
        "git_sha": code["git_sha"],
        "dirty": code["dirty"],
        "packages": evidence.packages(),
    }
    machine = Machine(**found["machine"])
    if found["gpu"]:  # large models' files are most of a start, and were not read here
        machine = replace(machine, start_s=machine.start_s + START_S)
    keep(runs, Benched(unit, found["gpu"] or here["cpu"], time.time(), machine, facts))
    threads = "" if found["gpu"] else f", {options.threads} threads"
    _show(f"{found['gpu'] or here['cpu']}{threads}", unit, machine)
    return 0


def _measured(runs: Runs, threads: int) -> dict[str, Any]:
    """In a process of its own, as jobs run. Raises UsageError with the last line that it said."""
    command = [sys.executable, "-m", "lwspec.kernels.machine", str(runs.path), str(threads)]
    done = subprocess.run([*command, str(time.time())], capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it printed nothing"]
        raise UsageError(f"the machine could not be measured: {lines[-1]}")
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _show(hardware: str, unit: str, machine: Machine) -> None:
    assumed = ASSUMED[unit]
    console = Console(highlight=False)
    console.print(f"{hardware}, counted as {unit}: plans are priced by this from now on\n")
    for what, name, scale, suffix in (
        ("products of frozen models", "frozen_flop_s", 1e12, "TFLOP/s"),
        ("products in float32", "trained_flop_s", 1e12, "TFLOP/s"),
        ("memory, copied", "moved_bytes_s", 1e9, "GB/s"),
        ("a block of a model, launched", "block_s", 1e-3, "ms"),
        ("disk, written and hashed", "disk_bytes_s", 1e9, "GB/s"),
        ("a process begun", "start_s", 1.0, "s"),
    ):
        mine, before = getattr(machine, name) / scale, getattr(assumed, name) / scale
        console.print(f"{what:<30}{mine:10.3g} {suffix:<8} assumed before: {before:.3g}")
