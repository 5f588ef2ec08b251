"""`lwspec status [SPEC]`: every job's state, progress, and what was spent."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lwspec.cli.session import Session, open_session
from lwspec.engine.job import Job
from lwspec.engine.states import State, blockers

WATCH_EVERY_S = 2.0


def main(options: argparse.Namespace) -> int:
    """Show the state once, or again and again until nothing runs."""
    while True:
        session = open_session(
            options.spec, options.db, options.runs, rescan=options.rescan, quiet=options.json
        )
        console = Console(highlight=False, soft_wrap=True)
        if options.json:
            print(json.dumps(_json(session), indent=1))
        else:
            if options.watch and console.is_terminal:
                console.clear()
            _show(session, console)
        running = State.RUNNING in session.plan.states.values()
        if not options.watch or not running:
            return 1 if State.FAILED in session.plan.states.values() else 0
        time.sleep(WATCH_EVERY_S)


def _show(session: Session, console: Console) -> None:
    plan = session.plan
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("experiment")
    for state in State:
        table.add_column(state.value, justify="right")
    later = {row.experiment for row in plan.rows if row.plan_only}
    for name, ids in plan.expansion.experiments.items():
        counts = Counter(plan.states[job] for job in ids)
        table.add_row(
            escape(name) + " (plan only)" * (name in later),
            *(str(counts[state] or "·") for state in State),
        )
    console.print(table)
    for job in plan.expansion.jobs.values():
        line = _line(session, job)
        if line:
            console.print(escape(line))
    console.print(
        f"budget {plan.loaded.spec.budget.gpu_hours:.2f} · spent {plan.spent_hours:.3f} · "
        f"to come {plan.p50_hours:.2f} · left {plan.left_hours - plan.p50_hours:.2f}"
    )


def _line(session: Session, job: Job) -> str | None:
    """What is worth a line of its own: what runs, what failed and why, what it blocks."""
    plan, state = session.plan, session.plan.states[job.id]
    tried = session.records.attempts.get(job.id, ())
    if state == State.RUNNING:
        progress = tried[-1].progress or {}
        share = f"{progress['what']} {progress['done']}/{progress['total']}" if progress else ""
        return f"{state}  {job.kind} {job.label}  {share}"
    if state == State.FAILED:
        first = (tried[-1].message or "").strip().splitlines()
        return f"{state}  {job.kind} {job.label} [{tried[-1].outcome}] {first[0] if first else ''}"
    if state == State.BLOCKED:
        roots = blockers(job, plan.expansion.jobs, plan.states)
        names = dict.fromkeys(root.label for root in roots)
        return f"{state}  {job.kind} {job.label} by {', '.join(names)}"
    if state == State.INTERRUPTED:
        return f"{state}  {job.kind} {job.label}: lwspec submit goes on with it"
    return None


def _json(session: Session) -> dict[str, Any]:
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
                "attempts": [
                    {"number": a.number, "outcome": a.outcome, "message": a.message}
                    for a in session.records.attempts.get(job.id, ())
                ],
            }
            for job in plan.expansion.jobs.values()
        ],
    }
