"""The states of a plan's jobs, in lines for a person and as data for programs."""

from __future__ import annotations

from typing import Any

from lwspec.cli.session import Session
from lwspec.cli.summary import failure_of
from lwspec.engine.job import Job
from lwspec.engine.runs.states import State, blockers


def line_of(session: Session, job: Job) -> str | None:
    """What is worth a line of its own: what runs, what failed and why, what it blocks."""
    plan, state = session.plan, session.plan.states[job.id]
    tried, held = session.records.attempts.get(job.id, ()), session.watched.held.get(job.id)
    if state == State.RUNNING:
        progress = tried[-1].progress or {}
        share = f"{progress['what']} {progress['done']}/{progress['total']}" if progress else ""
        return f"{state}  {job.kind} {job.label}  {share}"
    if state == State.FAILED:
        kind, message = failure_of(tried, held)
        return f"{state}  {job.kind} {job.label} [{kind}] {(message.splitlines() or [''])[0]}"
    if state == State.QUEUED and held is not None and held.why:
        return f"{state}  {job.kind} {job.label}: SLURM holds it ({held.why}); scontrol release"
    if state == State.BLOCKED:
        roots = blockers(job, plan.expansion.jobs, plan.states)
        names = dict.fromkeys(root.label for root in roots)
        return f"{state}  {job.kind} {job.label} by {', '.join(names)}"
    if state in (State.INTERRUPTED, State.LOST):
        why = f" [{held.why}]" if held is not None and held.why else ""
        return f"{state}  {job.kind} {job.label}{why}: lwspec submit goes on with it"
    if state == State.CANCELLED:
        return f"{state}  {job.kind} {job.label}: lwspec retry, or submit, starts it again"
    return None


def as_json(session: Session) -> dict[str, Any]:
    """What programs are told."""
    plan = session.plan
    return {
        "spec": plan.loaded.spec.name,
        "budget_hours": plan.loaded.spec.budget.gpu_hours,
        "spent_hours": plan.spent_hours,
        "jobs": [
            {
                "id": job.id,
                "kind": job.kind,
                "label": job.label,
                "state": plan.states[job.id],
                "allocation": _allocation(session, job.id),
                "attempts": [
                    {"number": a.number, "outcome": a.outcome, "message": a.message}
                    for a in session.records.attempts.get(job.id, ())
                ],
            }
            for job in plan.expansion.jobs.values()
        ],
    }


def _allocation(session: Session, job: str) -> dict[str, Any] | None:
    """A job's newest allocation in SLURM."""
    held = session.watched.held.get(job)
    if held is None:
        return None
    return {"id": session.watched.slurm_id(job), "life": held.life, "ended": held.why}
