"""`lwspec status [SPEC]`: every job's state, progress, and what was spent."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lwspec.cli.session import Session, open_session
from lwspec.cli.summary import failure_of
from lwspec.cli.terminal import printable
from lwspec.engine.job import Job
from lwspec.engine.states import State, blockers


def main(options: argparse.Namespace) -> int:
    """Show the state once, or stay and show what changes."""
    if options.watch:
        from lwspec.cli.watch import watch  # what it draws with is not for every command

        return watch(options)
    session = open_session(
        options.spec, options.db, options.runs, rescan=options.rescan, quiet=options.json
    )
    if options.json:
        print(json.dumps(as_json(session), indent=1))
    else:
        show(session, Console(highlight=False, soft_wrap=True))
    return 1 if State.FAILED in session.plan.states.values() else 0


def show(session: Session, console: Console) -> None:
    """Print the state for a person."""
    plan = session.plan
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("experiment")
    there = set(plan.states.values())
    shown = [state for state in State if state in there]
    for state in shown:
        table.add_column(state.value, justify="right")
    later = {row.experiment for row in plan.rows if row.plan_only}
    for name, ids in plan.expansion.experiments.items():
        counts = Counter(plan.states[job] for job in ids)
        table.add_row(
            escape(name) + " (plan only)" * (name in later),
            *(str(counts[state] or "·") for state in shown),
        )
    console.print(table)
    for job in plan.expansion.jobs.values():
        line = line_of(session, job)
        if line:
            console.print(escape(printable(line)))
    earlier = [job for job in plan.granted_s if job not in plan.expansion.jobs]
    if earlier:
        console.print(f"{len(earlier)} jobs of an earlier plan are in SLURM's hands: lwspec cancel")
    console.print(
        f"budget {plan.loaded.spec.budget.gpu_hours:.2f} · spent {plan.spent_hours:.3f} · "
        f"reserved {plan.reserved_hours:.2f} · left {plan.free_hours:.2f} · "
        f"to run {plan.p50_hours:.2f}"
    )


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
