"""How long the command line takes: help, and planning a spec of 10,000 jobs.

    python bench/command_line.py

Prints medians in seconds, and each as a ratio to starting a bare interpreter.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 7
SPEC = Path(__file__).parent.parent / "specs" / "quickstart.toml"


def median_s(arguments: list[str], folder: Path) -> float:
    """Median wall seconds of a command, after one warm-up."""
    times = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True)
        times.append(time.perf_counter() - start)
        if done.returncode not in (0, 3):
            raise SystemExit(done.stderr.decode())
    return statistics.median(times[1:])


def large_spec(folder: Path) -> str:
    """The quickstart's bridge experiment with 2,500 seeds on two tasks: 10,004 jobs and more."""
    text = SPEC.read_text().replace("seeds = [42, 123, 456]", f"seeds = {list(range(2500))}")
    (folder / "large.toml").write_text(text)
    (folder / "paper.tex").write_text((SPEC.parent / "paper.tex").read_text())
    return "large.toml"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = large_spec(folder)
        bare = median_s(["-c", "pass"], folder)
        for label, arguments in (
            ("bare interpreter", ["-c", "pass"]),
            ("lwspec --help", ["-m", "lwspec", "--help"]),
            ("lwspec plan quickstart", ["-m", "lwspec", "plan", str(SPEC)]),
            ("lwspec plan, 10,000 jobs", ["-m", "lwspec", "plan", spec]),
        ):
            seconds = median_s(arguments, folder)
            print(f"{label:<26}{seconds:7.3f} s  {seconds / bare:6.1f} x")


if __name__ == "__main__":
    main()
