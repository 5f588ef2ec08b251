"""What fits that differ in seed alone cost in one process, and in a process each: CPU seconds.

    python bench/side_by_side.py [SPEC] [FIT]

FIT is the label of fits without their seed. What they need is made first, and not counted; both
ways load libraries and models as often as they would. Prints CPU seconds and their ratio.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lwspec.cli.session import open_session
from lwspec.engine.runfolder import Runs
from lwspec.engine.submit import LOCAL, write_jobs

QUICKSTART = Path(__file__).parent.parent / "specs" / "quickstart.toml"


def prepare(spec: Path, fit: str, folder: Path) -> list[str]:
    """Make what the fits read, and grant them; their ids."""
    db, runs = folder / "results.db", folder / "runs"
    plan = open_session(spec, db, runs).plan
    jobs = plan.expansion.jobs
    chosen = [
        job for job in jobs.values() if job.kind == "fit" and job.label.startswith(f"{fit} s")
    ]
    assert chosen, f"no fit is called {fit}"
    needs = {jobs[source].label for job in chosen for source in job.inputs.values()}
    for label in sorted(needs):
        command = ["submit", str(spec), "--db", str(db), "--runs", str(runs), "--yes"]
        lwspec([*command, "--only", label])
    write_jobs(plan, Runs(runs), {job.id: 1e6 for job in chosen}, LOCAL)
    return [job.id for job in chosen]


def lwspec(arguments: Sequence[str]) -> None:
    """A verb of the command line."""
    subprocess.run([sys.executable, "-m", "lwspec", *arguments], check=True, capture_output=True)


def cpu_s(runs: Path, together: Sequence[Sequence[str]]) -> float:
    """CPU seconds of a process for each group of jobs, one after the other."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for ids in together:
        folders = [str(runs / id) for id in ids]
        subprocess.run([sys.executable, "-m", "lwspec.kernels.run", *folders], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Train the fits both ways from the same beginning, and print."""
    spec = Path(sys.argv[1]) if len(sys.argv) > 1 else QUICKSTART
    fit = sys.argv[2] if len(sys.argv) > 2 else "bridge topic"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ids = prepare(spec.resolve(), fit, folder)
        shutil.copytree(folder / "runs", folder / "beside")
        apart = cpu_s(folder / "runs", [[id] for id in ids])
        beside = cpu_s(folder / "beside", [ids])
        print(f"fits           {len(ids):8,}")
        print(f"a process each {apart:8.1f} CPU s")
        print(f"side by side   {beside:8.1f} CPU s, {apart / beside:.2f} times less")


if __name__ == "__main__":
    main()
