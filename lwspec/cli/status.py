"""`lwspec status [SPEC]`: every job's state, progress, and what was spent."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lwspec.cli.session import Session, open_session
from lwspec.cli.terminal import printable
from lwspec.cli.told import as_json, line_of
from lwspec.engine.runs.states import State


def main(options: argparse.Namespace) -> int:
    """Show the state once, or stay and show what changes."""
    if options.watch:
        from lwspec.cli.watching.loop import watch  # what it draws with is not for every command

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

    def add(name: str, jobs: Iterable[str]) -> None:
        counts = Counter(plan.states[job] for job in jobs)
        table.add_row(name, *(str(counts[state] or "·") for state in shown))

    later = {row.experiment for row in plan.rows if row.plan_only}
    for name, ids in plan.expansion.experiments.items():
        add(escape(name) + " (plan only)" * (name in later), ids)
    add("total", plan.expansion.to_run)
    console.print(table)
    if len(plan.expansion.jobs) < sum(map(len, plan.expansion.experiments.values())):
        console.print("jobs that experiments share: counted in each of them, once in the total")
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
