"""How long 2,000 jobs take to submit to SLURM, and one status of them.

    python bench/submission.py

Starts a cluster of its own from Debian's packages (tests/slurm/packages.txt) and takes it down
again; the jobs are of a work without science and do not run to their end.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from slurm.cluster import Cluster
from slurm.fixtures import SlurmProject

JOBS = 2000
PORT = 16900


def seconds(act: Callable[[], object]) -> float:
    """Wall seconds of a call."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def main() -> None:
    """Submit, look, cancel, print."""
    root, folder = Path(tempfile.mkdtemp(prefix="slurm")), Path(tempfile.mkdtemp())
    root.chmod(0o711)
    cluster = Cluster(root, PORT, accounting=True)
    try:
        cluster.up()
        project = SlurmProject(folder, cluster, JOBS)
        project.control(data={"seconds": 600})
        submit = seconds(lambda: project.submit("--only", "data*"))
        queued = cluster.run("squeue", "-h", "-r").count("\n")
        status = seconds(lambda: project.run("status", "small.toml"))
        cancel = seconds(lambda: project.run("cancel", "small.toml"))
        print(f"jobs in the queue {queued:8,}")
        print(f"submit            {submit:8.1f} s")
        print(f"status            {status:8.1f} s")
        print(f"cancel            {cancel:8.1f} s")
    finally:
        cluster.down()
        shutil.rmtree(root, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
