"""`lwspec submit --executor slurm`: submit arrays, and wait for them if asked to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwspec.cli.agree import check_budget, nothing_to_run
from lwspec.cli.session import Project, Session
from lwspec.cli.summary import summary
from lwspec.cli.terminal import printable
from lwspec.engine.executors.again import again, due
from lwspec.engine.executors.slurm import sbatch
from lwspec.engine.executors.slurm.arrays import Array
from lwspec.engine.executors.slurm.send import (
    Target,
    asked_of,
    open_target,
    prepare,
    send,
    settle_doubts,
)
from lwspec.engine.executors.slurm.submission import submissions
from lwspec.engine.executors.slurm.watch import watch
from lwspec.engine.executors.submit import SLURM, write_jobs
from lwspec.engine.plan.pack import in_order, packs
from lwspec.engine.plan.plan import Plan
from lwspec.engine.redact import redact
from lwspec.engine.runs.life import SBATCH_S
from lwspec.engine.runs.lock import STARTING, only_one
from lwspec.engine.runs.runfolder import JobFolder, Runs
from lwspec.engine.runs.snapshot import snapshot_of, take_snapshot
from lwspec.engine.runs.states import State
from lwspec.engine.spec.cluster import DEFAULT, choose
from lwspec.errors import BusyError, LwspecError

WAIT_EVERY_S = 3.0
LONGEST_WAIT_S = 30.0
"""Between two tries at a cluster that takes no jobs."""
LOCK_WAIT_S = 60.0


@dataclass(frozen=True)
class Sending:
    """How jobs are sent to SLURM."""

    cluster: str | None
    """A [cluster.NAME] table of the spec; None of the only one, or the default."""
    snapshot: bool
    """Whether jobs run a copy of the code as it is now."""
    wait: bool
    dry_run: bool = False


def submit_to_slurm(project: Project, how: Sending, agree: Callable[[Session], set[str]]) -> int:
    """Submit what `agree` returns; with `wait`, 0 when all of it is done and 1 if a job failed."""
    project.open()  # writes nothing if the spec is wrong
    with only_one(project.runs, STARTING, LOCK_WAIT_S):
        settle_doubts(Runs(project.runs), watch, SBATCH_S)
        session = project.open(quiet=False)
        wanted = agree(session)
        home = take_snapshot(session.runs) if how.snapshot else None
        target = _target(session, how.cluster, home)
        if not wanted:
            project.say(nothing_to_run(session.plan))
        if how.dry_run:
            return _show(project, session, target, wanted)
        if wanted:
            allowance_s = session.plan.shared_allowances_s(wanted)
            made = _arrays(session, target, allowance_s, _unsaved_s(session.plan, wanted))
            write_jobs(session.plan, session.runs, allowance_s, SLURM, any_code=not how.snapshot)
            session.memory.remember_submitted(session.plan)
            try:
                _send(project, session, target, made)
            except BusyError as error:
                if not how.wait:
                    raise
                project.warn(str(error))  # what is left is sent while waiting
    if not how.wait:
        return 0
    try:
        return wait(project, wanted)
    except KeyboardInterrupt:
        project.warn("jobs in SLURM go on; lwspec status looks at them")
        raise


def keep_going(project: Project, session: Session) -> int:
    """Submit again, where it was before, what may be tried again; how many jobs.

    What was sent to another cluster, or from other code, is left for the next look. Raises
    BudgetError where the budget does not allow it, ClusterError where SLURM does not.
    """
    if not _due(session):
        return 0
    with only_one(project.runs, STARTING, LOCK_WAIT_S):
        settle_doubts(session.runs, watch, SBATCH_S)
        session = project.open()
        before, wanted = _sent_alike(session, _due(session))
        if before is None:
            return 0
        check_budget(session.plan, wanted)
        cluster = None if before["cluster"] == DEFAULT else before["cluster"]
        target = _target(session, cluster, snapshot_of(session.runs, before["code"]))
        allowance_s = {
            job: _limited_s(session.runs.folder(job), more_s)
            for job, more_s in session.plan.shared_allowances_s(wanted).items()
        }
        _send(project, session, target, _arrays(session, target, allowance_s, {}))
    return len(wanted)


def _sent_alike(
    session: Session, wanted: Collection[str]
) -> tuple[Mapping[str, Any] | None, set[str]]:
    """The last intent of the first job, and the jobs that can be sent as it was, inputs first.

    A job that was granted and never sent goes where the spec's last submission went.
    """
    newest, name = session.watched.newest, session.loaded.spec.name
    mine = [each.intent for each in submissions(session.runs) if each.intent["spec"] == name]
    if not mine:
        return None, set()
    first: Mapping[str, Any] | None = None
    alike: set[str] = set()
    for job in in_order(session.plan.expansion.jobs, set(wanted)):
        intent = newest[job.id].submission.intent if job.id in newest else mine[-1]
        first = first or intent
        same = all(intent[key] == first[key] for key in ("cluster", "code"))
        if same and not (set(job.inputs.values()) & (set(wanted) - alike)):
            alike.add(job.id)
    return first, alike


def _limited_s(folder: JobFolder, more_s: float) -> float:
    """A job's allowance, lowered to what it has spent and `more_s` if it was granted more."""
    folder.limit(folder.spent_s() + more_s)
    return float(folder.record()["allowance_s"])


def wait(project: Project, wanted: set[str]) -> int:
    """Look on until nothing runs, waits or may be tried again; then the summary's exit status.

    A cluster that does not answer is asked again.
    """
    wanted, said, pause_s = set(wanted), ["", ""], WAIT_EVERY_S
    while True:
        session = project.open()
        plan = session.plan
        wanted |= set(plan.in_hand)
        counts = Counter(plan.states[job] for job in plan.expansion.to_run)
        line = " · ".join(f"{counts[state]} {state.value}" for state in State if counts[state])
        again, trouble = try_again(project, session)
        for place, text in enumerate((line, printable(redact(str(trouble or ""))))):
            if text and text != said[place]:
                project.say(text)
            said[place] = text
        if not again and not plan.in_hand:
            if trouble is None:
                return summary(session, wanted, project.say)
            if not isinstance(trouble, BusyError):
                raise trouble
        pause_s = min(2 * pause_s, LONGEST_WAIT_S) if trouble else WAIT_EVERY_S
        time.sleep(pause_s)


def try_again(project: Project, session: Session) -> tuple[int, LwspecError | None]:
    """`keep_going`, for those who go on looking when it cannot: how many jobs, or why none."""
    try:
        return keep_going(project, session), None
    except LwspecError as error:
        return 0, error


def _due(session: Session) -> set[str]:
    """What may be started again by itself, of what was granted to SLURM and is still owed."""
    plan, folder = session.plan, session.runs.folder
    retries = plan.loaded.spec.retries

    def may_again(job: str) -> bool:
        held = session.watched.held.get(job)
        return not (held and held.fruitless) and again(folder(job).outcomes(), retries)

    todo = [plan.expansion.jobs[job] for job in plan.to_run]
    found = due(todo, plan.states, may_again)
    return {job for job in found if _granted(session, job)}


def _granted(session: Session, job: str) -> bool:
    """Whether a job was submitted to SLURM, and owes of what it was submitted for."""
    folder = session.runs.folder(job)
    if not (folder.path / "job.json").exists():
        return False
    record = folder.record()
    return record.get("executor") == SLURM and bool(folder.owed(record["outputs"]))


def _target(session: Session, name: str | None, home: Path | None) -> Target:
    """A cluster by its name, with the memory that the spec's models need."""
    name, cluster = choose(name, session.loaded.spec.cluster)
    if cluster.memory_gb is None:
        cluster = cluster.model_copy(update={"memory_gb": round(session.plan.host_gb, 1)})
    return open_target(name, cluster, session.runs, home)


def _unsaved_s(plan: Plan, jobs: Collection[str]) -> dict[str, float]:
    """How long each job may work before it has saved anything: looked at when it is granted."""
    return {job: plan.unsaved_s(job) for job in jobs}


def _arrays(
    session: Session,
    target: Target,
    allowance_s: Mapping[str, float],
    unsaved_s: Mapping[str, float],
) -> list[tuple[Array, int]]:
    """What would be submitted, with time limits; jobs in SLURM already are waited for."""
    plan, watched = session.plan, session.watched
    ids = {job: watched.slurm_id(job) for job in plan.in_hand if job in watched.newest}
    queued = {job: id for job, id in ids.items() if id is not None}
    todo = in_order(plan.expansion.jobs, set(allowance_s))
    made = packs(todo, plan.loaded.spec.resources.side_by_side)
    return prepare(made, target, allowance_s, unsaved_s, queued)


def _send(
    project: Project, session: Session, target: Target, made: list[tuple[Array, int]]
) -> None:
    """Submit arrays, saying how far it is; intents that never arrived are given up first."""
    spec, newest = session.loaded.spec, session.watched.newest
    for job in (job for array, _ in made for pack in array.packs for job in pack.jobs):
        before = newest.get(job.id)
        if before is not None and before.submission.array_id() is None:
            before.submission.abandon()
    total, sent = sum(len(array.packs) for array, _ in made), 0

    def observe(elements: int) -> None:
        nonlocal sent
        sent += elements
        project.say(f"submitted {sent} of {total} allocations to {target.name}")

    send(made, target, session.runs, spec.name, spec.retries, observe)


def _show(project: Project, session: Session, target: Target, wanted: set[str]) -> int:
    """Say what sbatch would be given; ids that SLURM has yet to give are packs' ids."""
    allowance_s = session.plan.shared_allowances_s(wanted)
    made = _arrays(session, target, allowance_s, _unsaved_s(session.plan, wanted))
    for number, (array, limit_minutes) in enumerate(made, start=1):
        name = f"{session.loaded.spec.name}-{number}"
        folder = session.runs.path / "submissions" / name
        after = sorted(array.after)
        asked = asked_of(array, target.cluster, name, after, limit_minutes, target.home)
        project.say(sbatch.text(asked, len(array.packs), folder))
    return 0
