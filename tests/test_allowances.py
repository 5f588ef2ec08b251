"""What jobs may spend together, and how long one may work unsaved."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from conftest import Project
from test_cluster import offers

from lwspec.cli.agree import check_budget
from lwspec.cli.session import open_session
from lwspec.engine.executors.slurm.limits import Allowed
from lwspec.engine.executors.slurm.send import Target, prepare
from lwspec.engine.executors.slurm.submission import intend
from lwspec.engine.executors.submit import SLURM, write_jobs
from lwspec.engine.plan.pack import Pack
from lwspec.engine.plan.plan import FREE_ALLOWANCE_S, Plan
from lwspec.engine.runs.runfolder import Runs
from lwspec.engine.spec.cluster import Cluster
from lwspec.engine.spec.spec import Budget
from lwspec.errors import BudgetError, ClusterError
from lwspec.kernels.attempt import Attempt, Clock, StopFlag


def test_allowances_stay_within_the_budget_together(project: Project) -> None:
    project.change("gpu_hours = 2.0", "gpu_hours = 0.2")
    plan = open_session(project.spec, project.folder / "x.db", project.runs, quiet=True).plan
    assert sum(plan.allowance_s(job) for job in plan.to_run) > 0.2 * 3600
    plan = replace(plan, granted_s={"fit-of-an-earlier-plan": 60.0})
    shared = plan.shared_allowances_s(plan.to_run)
    assert sum(shared.values()) == pytest.approx(0.2 * 3600 - 60)
    assert all(shared[job] >= plan.prices[job].p90_hours * 3600 for job in plan.to_run)
    roomy = plan.loaded.spec.model_copy(
        update={"budget": Budget(gpu_hours=2.01 * plan.p90_hours, gpu="cpu")}
    )
    wide = replace(plan, granted_s={}, loaded=replace(plan.loaded, spec=roomy))
    for job, allowed_s in wide.shared_allowances_s(wide.to_run).items():
        assert allowed_s >= 2 * plan.prices[job].p90_hours * 3600  # whatever short jobs could use
    half = plan.to_run[: len(plan.to_run) // 2]
    plan = replace(plan, granted_s=plan.shared_allowances_s(half))
    check_budget(plan, plan.to_run[len(half) :])


def test_a_job_that_costs_nothing_is_still_allowed_only_so_long(project: Project) -> None:
    project.change('gpu = "cpu"', 'gpu = "h200"')
    plan = open_session(project.spec, project.folder / "x.db", project.runs, quiet=True).plan
    (free,) = (job for job in plan.to_run if plan.expansion.jobs[job].step == "data")
    assert plan.expansion.jobs[free].charge == 0
    assert plan.shared_allowances_s(plan.to_run)[free] == FREE_ALLOWANCE_S
    write_jobs(plan, Runs(project.runs), {free: 60.0}, SLURM)
    folder = Runs(project.runs).folder(free)
    attempt = folder.begin_attempt()
    ended = {"outcome": "stopped", "ended_at": time.time(), "wall_s": 50, "device_s": 0}
    attempt.end(ended)
    assert folder.spent_s() == 50
    clock = Clock(since=time.monotonic() - 11)
    next_one = Attempt(folder.job(), attempt, Runs(project.runs), StopFlag(), 60.0, 50.0, clock)
    assert "spent its allowance of 60 seconds" in str(next_one.why_stop())
    assert next_one.device_s() == 0


def test_work_that_saves_nothing_must_fit_an_allocation(project: Project) -> None:
    plan = open_session(project.spec, project.folder / "x.db", project.runs, quiet=True).plan
    jobs = plan.expansion.jobs
    evaluation = next(job for job in plan.to_run if jobs[job].kind == "evaluate")
    fit = next(job for job in plan.to_run if jobs[job].kind == "fit")
    assert plan.unsaved_s(fit) == 0
    assert plan.unsaved_s(evaluation) == pytest.approx(plan.prices[evaluation].p90_hours * 3600)
    cluster = Cluster(minutes=30)
    target = Target("home", cluster, offers("n1"), None, Allowed(), None)
    pack = Pack("p", (jobs[evaluation],))
    ((_, limit),) = prepare([pack], target, {evaluation: 3600.0}, {evaluation: 1700.0}, {})
    assert limit == 30
    with pytest.raises(ClusterError, match="(?s)before it has saved anything.*raise minutes to 32"):
        prepare([pack], target, {evaluation: 3600.0}, {evaluation: 1800.0}, {})
    prepare([pack], target, {evaluation: 600.0}, {evaluation: 1800.0}, {})  # no limit ends it first
    prepare([pack], target, {evaluation: 3600.0}, {}, {})  # a retry of what was granted before


def test_jobs_of_an_earlier_plan_that_slurm_holds_spend_of_the_budget(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")  # a squeue that does not answer: what was submitted is queued
    project.change("gpu_hours = 2.0", "gpu_hours = 0.3")

    def plan_again() -> Plan:
        return open_session(project.spec, project.folder / "x.db", project.runs, quiet=True).plan

    plan, runs = plan_again(), Runs(project.runs)
    allowance_s = plan.shared_allowances_s(plan.to_run)
    write_jobs(plan, runs, allowance_s, SLURM)
    held = [{"id": pack.id, "jobs": [job.id for job in pack.jobs]} for pack in plan.packs]
    intend(runs, plan.loaded.spec.name, {"packs": held, "retries": {"killed": 3}})
    project.change("learning_rate = 1e-3", "learning_rate = 2e-3")
    changed = plan_again()
    charged = {job for job in allowance_s if plan.expansion.jobs[job].charge}
    assert charged - set(changed.expansion.jobs)
    granted = sum(allowance_s[job] for job in charged)
    assert changed.reserved_hours == pytest.approx(granted / 3600)
    with pytest.raises(BudgetError, match="reserved"):
        check_budget(changed, set(changed.to_run) - set(changed.in_hand))
