"""`lwspec submit --executor slurm`: submit arrays, and wait for them if asked to."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable

from lwspec.cli.session import Session, open_session
from lwspec.cli.submit import check_budget, nothing_to_run, summary
from lwspec.engine.due import due
from lwspec.engine.local import only_one
from lwspec.engine.pack import in_order, packs
from lwspec.engine.runfolder import Runs
from lwspec.engine.slurm import sbatch
from lwspec.engine.slurm.arrays import Array
from lwspec.engine.slurm.cluster import choose
from lwspec.engine.slurm.life import SBATCH_S
from lwspec.engine.slurm.send import Target, asked_of, open_target, prepare, send, settle_doubts
from lwspec.engine.slurm.submission import submissions
from lwspec.engine.slurm.watch import watch
from lwspec.engine.states import State
from lwspec.engine.submit import write_jobs

WAIT_EVERY_S = 3.0
LOCK_WAIT_S = 60.0


def submit_to_slurm(options: argparse.Namespace, agree: Callable[[Session], set[str]]) -> int:
    """Submit what `agree` returns; with --wait, 0 when all of it is done and 1 if a job failed."""
    with only_one(options.runs, LOCK_WAIT_S):
        settle_doubts(Runs(options.runs), watch, SBATCH_S)
        session = open_session(options.spec, options.db, options.runs)
        wanted = agree(session)
        target = _target(session, options.cluster, options.snapshot)
        if options.dry_run:
            return _show(session, target, wanted)
        if wanted:
            write_jobs(session.plan, session.runs, wanted)
            session.memory.remember_submitted(session.plan)
            _send(session, target, wanted)
        else:
            print(nothing_to_run(session.plan))
    return wait(options, wanted) if options.wait else 0


def keep_going(options: argparse.Namespace, session: Session) -> int:
    """Submit again, to the cluster of the last time, what may be tried again; how many jobs.

    Raises BudgetError where the budget does not allow it.
    """
    if not _due(session):
        return 0
    with only_one(options.runs, LOCK_WAIT_S):
        session = open_session(options.spec, options.db, options.runs, quiet=True)
        target, wanted = _last_target(session), _due(session)
        if target is None or not wanted:
            return 0
        check_budget(session.plan, wanted)
        _send(session, target, wanted)
    return len(wanted)


def wait(options: argparse.Namespace, wanted: set[str]) -> int:
    """Look on until nothing runs, waits or may be tried again; then the summary's exit status."""
    wanted, said = set(wanted), ""
    while True:
        session = open_session(options.spec, options.db, options.runs, quiet=True)
        plan = session.plan
        wanted |= set(plan.in_hand)
        counts = Counter(plan.states[job] for job in plan.expansion.to_run)
        line = " · ".join(f"{counts[state]} {state.value}" for state in State if counts[state])
        if line != said:
            print(line, flush=True)
            said = line
        if not keep_going(options, session) and not plan.in_hand:
            return summary(session, wanted)
        time.sleep(WAIT_EVERY_S)


def _due(session: Session) -> set[str]:
    """What may be started again by itself, of the jobs that were submitted."""
    plan, folder = session.plan, session.runs.folder
    found = due(
        [plan.expansion.jobs[job] for job in plan.to_run],
        plan.states,
        lambda job: folder(job).outcomes(),
        plan.loaded.spec.retries,
    )
    return {job for job in found if job in session.watched.newest}


def _last_target(session: Session) -> Target | None:
    """The cluster that this spec was submitted to last."""
    name = session.loaded.spec.name
    mine = [each for each in submissions(session.runs) if each.intent["spec"] == name]
    if not mine:
        return None
    last, declared = mine[-1].intent, session.loaded.spec.cluster
    return _target(session, last["cluster"] if declared else None, last["code"] is not None)


def _target(session: Session, name: str | None, snapshot: bool) -> Target:
    """A cluster by its name, with the memory that the spec's models need."""
    name, cluster = choose(name, session.loaded.spec.cluster)
    if cluster.memory_gb is None:
        cluster = cluster.model_copy(update={"memory_gb": round(session.plan.host_gb, 1)})
    return open_target(name, cluster, session.runs, snapshot)


def _arrays(session: Session, target: Target, wanted: set[str]) -> list[tuple[Array, int]]:
    plan = session.plan
    allowance_s = {job: plan.allowance_s(plan.expansion.jobs[job]) for job in wanted}
    ids = {
        job: session.watched.slurm_id(job) for job in plan.in_hand if job in session.watched.newest
    }
    queued = {job: id for job, id in ids.items() if id is not None}
    return prepare(packs(in_order(plan.expansion.jobs, wanted)), target, allowance_s, queued)


def _send(session: Session, target: Target, wanted: set[str]) -> None:
    """Submit jobs, saying how far it is."""
    made = _arrays(session, target, wanted)
    total, sent = sum(len(array.packs) for array, _ in made), 0
    spec = session.loaded.spec

    def observe(elements: int) -> None:
        nonlocal sent
        sent += elements
        print(f"submitted {sent} of {total} allocations to {target.name}", flush=True)

    send(made, target, session.runs, spec.name, spec.retries, observe)


def _show(session: Session, target: Target, wanted: set[str]) -> int:
    """Print what sbatch would be given; ids that SLURM has yet to give are packs' ids."""
    for number, (array, limit_minutes) in enumerate(_arrays(session, target, wanted), start=1):
        name = f"{session.loaded.spec.name}-{number}"
        folder = session.runs.path / "submissions" / name
        asked = asked_of(array, target.cluster, name, sorted(array.after), limit_minutes, None)
        print(sbatch.text(asked, len(array.packs), folder))
    return 0
