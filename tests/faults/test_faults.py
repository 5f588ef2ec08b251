"""A thousand faults and more: `make test-faults`. LWSPEC_FAULT_SEED repeats or varies schedules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from conftest import SPEC
from faults import commands, figures, on_slurm, plans, schedule
from faults.finished import RECORDS, Finished
from faults.schedule import Outcome
from faults.training import Training

pytestmark = pytest.mark.faults
JOB_STEPS = 96
"""A few more than a fit has."""


@pytest.fixture(scope="module", autouse=True)
def warmed() -> None:
    commands.warm()
    print(f"LWSPEC_FAULT_SEED={schedule.seed()}")


@pytest.fixture(scope="module")
def finished() -> Iterator[Finished]:
    made = Finished()
    assert not made.project.problems
    yield made
    made.project.remove()


def run(family: str, plan: Callable[[int], Outcome], numbers: Sequence[int]) -> int:
    """Run plans, keep their figures, and fail with what broke a promise; how many faults struck."""
    begun = time.monotonic()
    outcomes = schedule.all_of(plan, numbers)
    figures.keep(family, outcomes, time.monotonic() - begun)
    assert not any(each.problems for each in outcomes), schedule.problems(outcomes)
    return sum(sum(each.struck.values()) for each in outcomes)


def test_the_command_line_may_die_at_every_step_of_a_submission() -> None:
    steps = range(1, plans.command_steps() + 1)
    assert run("the command line at every step", plans.command_step, steps) >= len(steps)


def test_the_command_line_may_die_at_every_step_of_a_submission_to_slurm() -> None:
    steps = range(1, on_slurm.steps() + 1)
    assert run("submission to SLURM at every step", on_slurm.submission_step, steps) >= len(steps)


def test_the_ingester_may_die_at_every_step(finished: Finished) -> None:
    steps = range(1, finished.steps() + 1)
    assert run("the ingester at every step", finished.ingested, steps) >= len(steps)


def test_jobs_may_die_at_every_step() -> None:
    assert run("jobs at every step", plans.fit_step, range(1, JOB_STEPS)) > JOB_STEPS


def test_a_job_may_die_or_fail_again_and_again() -> None:
    assert run("jobs again and again", plans.job_steps, range(4)) > 60


def test_faults_at_random() -> None:
    assert run("at random", plans.randomly, range(28)) > 100


def test_damaged_files_are_named_or_change_nothing(finished: Finished) -> None:
    run("damaged files", finished.damaged, range(8 * len(RECORDS)))


def test_a_disk_that_runs_full() -> None:
    if not plans.may_mount():
        pytest.skip("no file system may be mounted here, so that none can run full")
    run("a full disk", plans.full_disk, range(8))


def test_real_training_ends_with_the_same_bytes(world: Path) -> None:
    commands.warm(real=True)
    head, main, *_ = SPEC.split("[[experiment]]\n")
    spec = f"{head}[[experiment]]\n{main}".replace("epochs = 2", "epochs = 4")
    training = Training(world, spec)
    assert not training.problems
    assert run("real training", training.plan, range(10)) >= 50
