"""Every target, two at a time: `python -m tests.fuzz [--seed N] [--page FILE] [TARGET ...]`.

Exits 1 where any case failed; what failed is printed with the text that did it.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.fuzz.targets import TARGETS
from tests.fuzz.world import ROOT, make_world

AT_ONCE = 2
_COVERED = re.compile(r"cov: (\d+) ft: (\d+)")


def fuzz(name: str, seed: int, share: float, world: Path, folder: Path) -> dict[str, Any]:
    """One target's figures; its process dying is a failure, too."""
    target, figures, log = TARGETS[name], folder / f"{name}.json", folder / f"{name}.log"
    count, seconds = max(1, int(target.cases * share)), target.seconds
    command = [sys.executable, "-m", "tests.fuzz.process", name]
    command += [str(count), str(seconds), str(seed), str(world), str(figures)]
    with log.open("wb") as file:
        done = subprocess.run(command, cwd=ROOT, stdout=file, stderr=file)
    said = log.read_text(errors="replace")
    covered = _COVERED.findall(said)
    paths = {"branches": int(covered[-1][0]), "features": int(covered[-1][1])} if covered else {}
    if figures.exists():
        told = {**json.loads(figures.read_text()), **paths}
    else:
        failure = {"error": f"exit {done.returncode}", "made": [said[-2000:]], "times": 1}
        told = {"target": name, "seed": seed, "cases": 0, "failures": [failure], **paths}
    print(f"{name:<11} seed {seed}  {told['cases']:>8,} cases  {_failed(told)} failed", flush=True)
    return told


def _failed(told: dict[str, Any]) -> int:
    return sum(each["times"] for each in told["failures"])


def page(found: list[dict[str, Any]], seed: int, wall_s: float) -> str:
    """The figures as a page of docs/."""
    lines = [
        "# Bad input: what the fuzzer tried",
        "",
        f"Made by `make fuzz` (seed {seed}) in {wall_s / 60:.0f} minutes, two processes at once, "
        f"on {_machine()}. A case is a real file, text or command with some tokens replaced, "
        "repeated, moved or cut; which, the fuzzer chooses by the branches that it has seen. It "
        "fails if it ends in a traceback, takes more than 5 s of a processor, starts a process, "
        "opens a connection, or writes outside its folder. Refused are the cases that ended in a "
        "message for a person; the others were read, or their damage was named and gone around. "
        "Branches are those of lwspec's code that were reached.",
        "",
        "| target | what is read | cases | refused | failed | a CPU second | slowest | branches |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for told in found:
        rate = told["cases"] / told["cpu_s"] if told.get("cpu_s") else 0.0
        lines.append(
            f"| {told['target']} | {TARGETS[told['target']].what} | {told['cases']:,} | "
            f"{told.get('refused', 0):,} | {_failed(told):,} | {rate:,.0f} | "
            f"{told.get('slowest_s', 0.0):.2f} s | {told.get('branches', 0):,} |"
        )
    cases, failed = sum(told["cases"] for told in found), sum(map(_failed, found))
    refused = sum(told.get("refused", 0) for told in found)
    lines += [f"| **all** | | **{cases:,}** | {refused:,} | **{failed:,}** | | | |", ""]
    return "\n".join(lines)


def _machine() -> str:
    from lwspec.engine.runs.evidence import machine

    told = machine()
    return (
        f"{told['cpu'] or platform.machine()}, {told['cpu_count']} cores, Python {told['python']}"
    )


def main() -> int:
    """Run, print, write the page."""
    options = argparse.ArgumentParser(prog="python -m tests.fuzz")
    options.add_argument("targets", nargs="*", choices=[[], *TARGETS], metavar="TARGET")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--share", type=float, default=1.0, help="of the cases")
    options.add_argument("--page", type=Path)
    told = options.parse_args()
    names, began = told.targets or list(TARGETS), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder, world = Path(name), Path(name) / "world"
        make_world(world)
        longest = sorted(names, key=lambda each: -TARGETS[each].seconds)
        with ThreadPoolExecutor(AT_ONCE) as at_once:
            made = at_once.map(
                lambda each: fuzz(each, told.seed, told.share, world, folder), longest
            )
            by_name = {each["target"]: each for each in made}
    found = [by_name[each] for each in names]
    for each in found:
        for failure in each["failures"]:
            print(json.dumps({"target": each["target"], **failure}, indent=1))
    text = page(found, told.seed, time.monotonic() - began)
    print(text)
    if told.page:
        told.page.write_text(text)
    return 1 if any(map(_failed, found)) else 0


if __name__ == "__main__":
    sys.exit(main())
