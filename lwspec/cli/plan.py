"""`lwspec plan SPEC`: the jobs and their price, as a table or as JSON."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lwspec.cli.session import Session, open_session, planning
from lwspec.cli.terminal import printable
from lwspec.engine.job import unpinned
from lwspec.engine.plan.plan import Change, Plan, Row, compare
from lwspec.engine.runs.evidence import PACKAGE, git_state, is_committed
from lwspec.report.detectable import detectable
from lwspec.report.paper.check import Checked, check_paper
from lwspec.report.query import read_results

WIDE = 150
"""Columns that the whole table takes; a narrower terminal gets its figures alone."""
MOST_BY_HAND = 5
"""Notes on what a paper shows that comes from no record; all are in the JSON."""


def main(options: argparse.Namespace) -> int:
    """Show the plan; exit 3 where it would cost more than is left."""
    with planning(options.spec, options.runs):
        session = open_session(options.spec, options.db, options.runs)
    change = change_since_submit(session)
    if options.json:
        print(json.dumps(plan_json(session, change), indent=1))
    else:
        show_plan(session, change, wide_console())
    session.memory.remember_shown(session.plan)
    return 3 if over_budget(session.plan) else 0


def over_budget(plan: Plan) -> bool:
    """Whether what is missing would cost more than is left."""
    return bool(plan.to_run) and plan.p90_hours > plan.left_hours


def change_since_submit(session: Session) -> Change | None:
    """How the plan differs from the one submitted last, or None where there is none."""
    earlier = session.memory.submitted(session.loaded.spec.name)
    return compare(session.plan, earlier["jobs"]) if earlier else None


def show_plan(session: Session, change: Change | None, console: Console) -> None:
    """Print the plan for a person."""
    plan = session.plan
    checked = check_paper(plan, session.runs.path)
    budget = plan.loaded.spec.budget
    console.print(f"{_headline(plan)} · counted in {budget.gpu}, {budget.gpus} at once\n")
    narrow = console.width < WIDE
    detects = detectable(plan, read_results(session.store))
    console.print(_table(plan, narrow, detects))
    if narrow:
        console.print(f"arms, tasks, seeds and points: in a terminal of {WIDE} columns")
    if later := [row for row in plan.rows if row.plan_only]:
        jobs, hours = sum(row.to_run for row in later), sum(row.p50_hours for row in later)
        console.print(f"plan only: {jobs} jobs, {_hours(hours)} hours, not in the total")
    console.print(
        f"budget {_hours(budget.gpu_hours)} · spent {_hours(plan.spent_hours)} · "
        f"this plan {_hours(plan.p50_hours)} ({_hours(plan.p90_hours)} reserved) · "
        f"after it {_hours(plan.left_hours - plan.p50_hours)} left · "
        f"wall clock on {budget.gpus} about {_duration(plan.p50_hours / budget.gpus)}"
    )
    if detects and not narrow:
        assumed = plan.loaded.spec.statistics
        console.print(
            f"detects: the least difference in points that a 5% test finds in 80% of cases, for a "
            f"spread of {100 * assumed.seed_sd:g} points between seeds and "
            f"{100 * assumed.item_sd:g} between items"
        )
    for name, text in [*_paper_notes(checked), *_notes(session, change)]:
        console.print(f"{name:<24}{escape(printable(text))}")


def wide_console() -> Console:
    """A console as wide as the terminal, or wide enough for anything where there is none."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=200)


def _headline(plan: Plan) -> str:
    code = git_state(PACKAGE.parent)
    commit = "code of no commit" if code["git_sha"] is None else f"code {code['git_sha'][:7]}"
    clean = {True: " with uncommitted changes", False: " clean", None: ""}[code["dirty"]]
    return (
        f"[bold]{escape(plan.loaded.spec.name)}[/bold] · plan {plan.digest[:7]} · {commit}{clean}"
    )


def _table(plan: Plan, narrow: bool, detects: Mapping[str, float]) -> Table:
    """A line for each experiment, under a line that sums up its group where it shares one."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    allotted = any(row.declared_hours is not None for row in plan.rows)
    table.add_column("experiment", no_wrap=True)
    if not narrow:
        table.add_column("arms", min_width=15)
        table.add_column("tasks", min_width=10)
    counted = () if narrow else ("seeds", "detects", "points")
    for column in (*counted, "to run", "h p50", "h p90", *(["allotted"] if allotted else [])):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("from", no_wrap=True)

    def line(cells: Sequence[str], rows: Sequence[Row], source: str) -> None:
        hours = [_allotted(rows)] if allotted else []
        table.add_row(*(cells[:1] if narrow else cells), *_sums(rows), *hours, source)

    for name, rows in _groups(plan).items():
        if len(rows) > 1:
            line([escape(name), "", "", "", "", ""], rows, _source(rows))
        for row in rows:
            indent = "  " if len(rows) > 1 else ""
            cells = [
                escape(indent + row.experiment),
                escape(" ".join(row.arms)),
                escape(" ".join(row.tasks)),
                str(row.seeds),
                f"{detects[row.experiment]:.1f}" if row.experiment in detects else "--",
                str(row.points),
            ]
            line(cells, [row], _source([row]))
    line(["total", "", "", "", "", ""], [row for row in plan.rows if not row.plan_only], "")
    return table


def _groups(plan: Plan) -> dict[str, list[Row]]:
    """The plan's rows by heading, in the order of the spec."""
    groups: dict[str, list[Row]] = {}
    for row in plan.rows:
        groups.setdefault(row.group, []).append(row)
    return groups


def _sums(rows: Sequence[Row]) -> list[str]:
    """Jobs to run, and hours, of some experiments together."""
    return [
        f"{sum(row.to_run for row in rows)} of {sum(row.jobs for row in rows)}",
        f"{sum(row.p50_hours for row in rows):.2f}",
        f"{sum(row.p90_hours for row in rows):.2f}",
    ]


def _allotted(rows: Sequence[Row]) -> str:
    """Hours that the spec allots to some experiments, where it allots any."""
    given = [row.declared_hours for row in rows if row.declared_hours is not None]
    return f"{sum(given):g}" if given else ""


def _source(rows: Sequence[Row]) -> str:
    """Where the price comes from, or why there is none to pay."""
    source = ", ".join(dict.fromkeys(s for row in rows for s in row.sources))
    source = source or ("all done" if any(row.jobs for row in rows) else "shared, see above")
    return f"{source}, plan only" if all(row.plan_only for row in rows) else source


def _paper_notes(checked: Checked) -> list[tuple[str, str]]:
    """What the paper asks for in vain, and what it leaves out."""
    notes = [("paper, unfilled", str(each)) for each in checked.unfilled]
    notes += [("paper, forbidden", str(each)) for each in checked.forbidden]
    if checked.unused:
        notes.append(("paper, unused", f"shows nothing of {', '.join(checked.unused)}"))
    shown = [str(each) for each in checked.by_hand[:MOST_BY_HAND]]
    if len(checked.by_hand) > MOST_BY_HAND:
        shown.append(f"and {len(checked.by_hand) - MOST_BY_HAND} more: lwspec plan --json")
    return [*notes, *(("paper, by hand", each) for each in shown)]


def _notes(session: Session, change: Change | None) -> list[tuple[str, str]]:
    plan = session.plan
    notes = _code_notes(plan)
    if change is not None:
        text = f"{len(change.new)} new · {len(change.changed)} changed · "
        text += f"{len(change.gone)} gone · {change.kept} kept"
        text += "".join(f"; {line}" for line in change.changed[:3])
        notes.append(("since the last submit", text))
    stale = {job: files for job, files in session.records.stale.items() if job in plan.states}
    if stale:
        files = sorted({file for changed in stale.values() for file in changed})
        shown = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
        notes.append(("stale", f"{len(stale)} done jobs ran code that has changed since ({shown})"))
    if moving := unpinned(plan.expansion.jobs.values()):
        text = f"{', '.join(moving)}: a hub may change them; set `revision` to a commit"
        notes.append(("not pinned", text))
    if any("modelled" in row.sources for row in plan.rows):
        notes.append(("modelled prices", _rates(plan)))
    if is_committed(plan.loaded.source.path.resolve()) is False:
        text = f"git has not {plan.loaded.source.path} as it is; runs keep their settings anyway"
        notes.append(("spec not committed", text))
    before = session.memory.shown(plan.loaded.spec.name)
    here = str(plan.loaded.source.path.resolve())
    if before is not None and before["spec_path"] != here:
        text = f"{before['spec_path']} has the same name: the two share budget and history"
        notes.append(("another spec", text))
    if over_budget(plan):
        over = _hours(plan.p90_hours - plan.left_hours)
        notes.append(("over budget", f"by {over} hours: fewer seeds, arms or epochs would fit"))
    elif len(plan.in_hand) < len(plan.to_run):
        notes.append(("next", "lwspec submit"))
    elif plan.to_run:
        notes.append(("next", f"lwspec status: {len(plan.in_hand)} jobs run or are queued"))
    else:
        notes.append(("next", "everything is done: lwspec report --paper paper/"))
    return notes


def _code_notes(plan: Plan) -> list[tuple[str, str]]:
    """The models that may run Python code of their own."""
    ran = [
        f"{name} ({model.path}{f' at {model.revision[:12]}' if model.revision else ''})"
        for name, model in plan.loaded.spec.models.items()
        if model.remote_code
    ]
    return [("runs code of models", ", ".join(ran))] if ran else []


def _rates(plan: Plan) -> str:
    """What modelled prices are made from."""
    if plan.benched is None:
        unit = plan.loaded.spec.budget.gpu
        return f"from rates assumed of any {unit}; lwspec bench measures one"
    day = time.strftime("%Y-%m-%d", time.localtime(plan.benched.measured_at))
    threads = plan.benched.evidence["command"][-1]
    on = plan.benched.hardware + (f" with {threads} threads" if plan.benched.unit == "cpu" else "")
    return f"from rates that lwspec bench measured on {on}, {day}"


def _hours(hours: float) -> str:
    return f"{hours:.2f}" if abs(hours) >= 0.1 or hours == 0 else f"{hours:.4f}"


def _duration(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.0f} min"


def plan_json(session: Session, change: Change | None) -> dict[str, Any]:
    """The plan for a program."""
    plan = session.plan
    checked = check_paper(plan, session.runs.path)
    detects = detectable(plan, read_results(session.store))
    return {
        "spec": plan.loaded.spec.name,
        "digest": plan.digest,
        "unit": plan.loaded.spec.budget.gpu,
        "budget_hours": plan.loaded.spec.budget.gpu_hours,
        "spent_hours": plan.spent_hours,
        "p50_hours": plan.p50_hours,
        "p90_hours": plan.p90_hours,
        "unspent_hours": plan.left_hours,
        "left_hours": plan.left_hours - plan.p50_hours,
        "allotted_hours": sum(r.declared_hours or 0.0 for r in plan.rows if not r.plan_only),
        "experiments": [
            {**asdict(row), "detects_points": detects.get(row.experiment)} for row in plan.rows
        ],
        "paper": {
            "unfilled": [str(each) for each in checked.unfilled],
            "unused": list(checked.unused),
            "forbidden": [str(each) for each in checked.forbidden],
            "by_hand": [str(each) for each in checked.by_hand],
        },
        "jobs": [
            {
                "id": job.id,
                "kind": job.kind,
                "step": job.step,
                "label": job.label,
                "state": plan.states[job.id],
                "owed": list(plan.owed.get(job.id, ())),
                **({"price": asdict(plan.prices[job.id])} if job.id in plan.prices else {}),
            }
            for job in plan.expansion.jobs.values()
        ],
        "remote_code": sorted(
            name for name, model in plan.loaded.spec.models.items() if model.remote_code
        ),
        "packs": [{"id": pack.id, "jobs": [j.id for j in pack.jobs]} for pack in plan.packs],
        "since_submit": asdict(change) if change else None,
    }
