"""What came of jobs that were started: what failed and why, and what to type next."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from lwspec.cli.session import Session
from lwspec.cli.terminal import printable
from lwspec.engine.executors.slurm.watch import watch
from lwspec.engine.plan.records import Attempt, recorded
from lwspec.engine.runs.life import Held
from lwspec.engine.runs.states import State, blockers, states


def failure_of(tried: Sequence[Attempt], held: Held | None) -> tuple[str, str]:
    """The class of a job's failure, and what there is to say of it."""
    if not tried:
        return (held.why if held and held.why else "failed"), "its allocation ended before it began"
    told = held.why if held is not None and held.why not in ("failed", "finished") else None
    return tried[-1].outcome or told or "killed", (tried[-1].message or "").strip()


def summary(session: Session, wanted: Collection[str], say: Callable[[str], None]) -> int:
    """Ingest, say what failed and why and what was cancelled, and return the exit status."""
    jobs = session.plan.expansion.jobs
    held = watch(session.runs).held  # first: what has ended by now has written all that it will
    records, found_damaged = recorded(session.runs, session.store, jobs)
    problems = [problem for problem in found_damaged if problem.job in wanted]
    owed = records.owed(jobs)
    cancelled = session.runs.cancelled(owed)
    found = states(jobs, {job: job in owed for job in jobs}, records.last, held, cancelled)
    for job in (jobs[id] for id in jobs if id in wanted):
        state = found[job.id]
        if state == State.INTERRUPTED:
            say(f"stopped  {job.kind} {job.label}, log: lwspec logs {job.id}")
        elif state == State.FAILED:
            kind, message = failure_of(records.attempts.get(job.id, ()), held.get(job.id))
            say(f"failed   {job.kind} {job.label} [{kind}]")
            say(f"         {printable(message)}")
            say(f"         log: lwspec logs {job.id}")
        elif state == State.CANCELLED:
            say(f"cancelled  {job.kind} {job.label}")
        elif state == State.BLOCKED:
            roots = dict.fromkeys(root.label for root in blockers(job, jobs, found))
            say(f"blocked  {job.kind} {job.label} by {', '.join(roots)}")
    for problem in problems:
        say(f"damaged  {problem.where}: {problem.what}")
    done = sum(found[id] == State.DONE for id in wanted)
    spent = records.spent_s.get(session.loaded.spec.name, 0.0) / 3600
    say(f"{done} of {len(wanted)} jobs done · {spent:.3f} hours spent on this spec")
    if done == len(wanted):
        return 0
    if problems:
        say(f"next     {problems[0].remedy or 'mend what is damaged, then lwspec submit'}")
        return 1
    ended = {found[id] for id in wanted}
    if State.CANCELLED in ended and State.FAILED not in ended:
        say("next     lwspec retry starts what was cancelled, and what it blocks")
    else:
        mend = "mend what failed, lwspec plan, then " if State.FAILED in ended else ""
        say(f"next     {mend}lwspec submit runs what is missing")
    return 1
