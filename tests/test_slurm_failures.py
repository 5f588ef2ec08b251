"""What fails under a job on a real SLURM: nodes, daemons, half-written files, deaf jobs."""

from __future__ import annotations

import os
import signal
import time

import pytest
from slurm.cluster import running, until
from slurm.fixtures import SlurmProject, finished, resumed_from

pytestmark = pytest.mark.slurm
DATA = ("--only", "data*")


def test_a_node_that_fails_gives_its_job_back(slurm: SlurmProject) -> None:
    slurm.control(data={"seconds": 6})
    slurm.submit(*DATA)
    slurm.until_counting("data")
    node = slurm.cluster.run("squeue", "-h", "-o", "%N").split()[0]
    slurm.cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    slurm.submit("--wait", *DATA)
    assert slurm.state("data") == "done"
    assert len(finished(slurm)) == 1


def test_a_slurmd_that_restarts_costs_nothing(slurm: SlurmProject) -> None:
    slurm.control(data={"seconds": 6})
    slurm.submit(*DATA)
    slurm.until_counting("data")
    node = slurm.cluster.run("squeue", "-h", "-o", "%N").split()[0]
    os.kill(slurm.cluster.pid(f"slurmd-{node}"), signal.SIGKILL)
    time.sleep(1)
    slurm.cluster.node(node)
    slurm.submit("--wait", *DATA)
    assert len(slurm.attempts("data")) == 1


def test_two_copies_of_a_job_are_two_attempts_and_one_is_taken(accounted: SlurmProject) -> None:
    """The slurmd of a node dies for good: the job starts elsewhere, the old process lives on."""
    slurm = accounted
    slurm.control(data={"seconds": 60})
    slurm.submit(*DATA)
    old = slurm.until_counting("data")
    node = slurm.cluster.run("squeue", "-h", "-o", "%N").split()[0]
    os.kill(slurm.cluster.pid(f"slurmd-{node}"), signal.SIGKILL)
    new = slurm.until_counting("data", attempt=2)
    assert running(old) and running(new)
    slurm.submit("--wait", *DATA)
    until(lambda: not running(old) and not running(new), 90)
    slurm.run("status", "small.toml", "--rescan", status=None)
    assert len(slurm.attempts("data")) == 2
    assert len(list((slurm.folder_of("data") / "taken").iterdir())) == 1


def test_a_node_that_dies_with_everything_on_it_gives_its_job_back(
    accounted: SlurmProject,
) -> None:
    """slurmd, the step and the task are gone at once; SLURM finds out and starts it elsewhere."""
    slurm = accounted
    slurm.control(data={"seconds": 6})
    slurm.submit(*DATA)
    task = slurm.until_counting("data")
    node, job = slurm.cluster.run("squeue", "-h", "-o", "%N %A").split()
    slurm.cluster.kill_node(node, job)
    until(lambda: not running(task))
    slurm.submit("--wait", *DATA)
    assert slurm.state("data") == "done"
    first, *later = slurm.attempts("data")
    assert first == {} and [end["outcome"] for end in later] == ["finished"]


def test_a_controller_that_is_away_is_waited_for(slurm: SlurmProject) -> None:
    slurm.control(data={"seconds": 5})
    slurm.submit(*DATA)
    slurm.until_counting("data")
    controller = slurm.cluster.pid("slurmctld")
    os.kill(controller, signal.SIGTERM)
    until(lambda: not running(controller))
    assert slurm.state("data") in ("running", "queued", "done")
    slurm.cluster.controller()
    slurm.submit("--wait", *DATA)
    assert slurm.state("data") == "done"
    assert len(finished(slurm)) == 1


def test_a_database_that_is_away_delays_nothing(accounted: SlurmProject) -> None:
    """Without slurmdbd sacct fails; the run folders and squeue tell enough."""
    slurm = accounted
    slurm.control(data={"seconds": 5})
    slurm.submit(*DATA)
    slurm.until_counting("data")
    database = slurm.cluster.pid("slurmdbd")
    os.kill(database, signal.SIGKILL)
    until(lambda: not running(database))
    assert slurm.state("data") == "running"
    slurm.submit("--wait", *DATA)
    assert slurm.state("data") == "done"
    slurm.cluster.database()
    assert slurm.state("data") == "done"
    assert len(slurm.attempts("data")) == 1


@pytest.mark.parametrize("partition", ["grace", "low"])
def test_a_preemption_that_only_terminates(accounted: SlurmProject, partition: str) -> None:
    """SLURM's default sends SIGTERM and no signal of the user's before it requeues."""
    slurm = accounted
    slurm.cluster.configure("SlurmctldParameters=preempt_send_user_signal\n", "")
    try:
        slurm.change('partition = "low"', f'partition = "{partition}"')
        slurm.control(data={"seconds": 12})
        slurm.submit(*DATA)
        slurm.until_counting("data")
        time.sleep(2)
        slurm.cluster.preempt()
        slurm.submit("--wait", *DATA)
    finally:
        slurm.cluster.configure()
    assert slurm.state("data") == "done"
    assert resumed_from(slurm) > 0
    assert len(slurm.attempts("data")) == 2


def test_what_was_half_written_when_a_job_was_killed_is_in_nobodys_way(
    slurm: SlurmProject,
) -> None:
    slurm.control(data={"do": "half"})
    slurm.submit("--wait", *DATA)
    assert slurm.state("data") == "done"
    first, second = slurm.attempts("data")
    assert first == {} and second["outcome"] == "finished"
    left = slurm.folder_of("data") / "attempt-1/outputs"
    assert list(left.glob(".*")) and not list(left.glob("*.json"))
    assert len(finished(slurm)) == 1


def test_a_job_that_is_deaf_to_the_warning_ends_at_its_limit(accounted: SlurmProject) -> None:
    slurm = accounted
    slurm.change("minutes = 10", "minutes = 2")
    slurm.change("killed = 3", "killed = 0")
    slurm.control(data={"seconds": 300, "do": "deaf"})
    slurm.submit("--wait", *DATA, status=1)
    assert slurm.state("data") in ("failed", "interrupted")
    assert not slurm.cluster.run("squeue", "-h").strip()
    slurm.control()
    slurm.run("retry", "--executor", "slurm", "--yes", "--wait", *DATA)
    assert slurm.state("data") == "done"
