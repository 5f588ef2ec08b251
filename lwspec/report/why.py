"""The chain behind a number: spec line, runs, commit, command, hardware, predictions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lwspec.engine.job import Job
from lwspec.engine.plan.expand import Cell
from lwspec.engine.plan.plan import Plan
from lwspec.engine.runs.states import State
from lwspec.errors import UsageError, nearest
from lwspec.report.claims import Judged
from lwspec.report.content import Content
from lwspec.report.evidence import Evidence, attempt_lines
from lwspec.report.paper.macros import Macro, macros
from lwspec.report.query import Results, file_of, groups
from lwspec.report.refs import At, entry_names, name_of, pairs_of, resolve
from lwspec.report.tables.entries import Entry
from lwspec.report.tables.layout import Layout
from lwspec.report.tables.plain import test_row


def explain(ref: str, content: Content, runs: Path) -> dict[str, Any]:
    """The chain behind whatever the other verbs name: an entry, a macro or placeholder, a claim,
    a table, a figure or a job.

    Raises UsageError for what is none of these.
    """
    plan, results, evidence = content.plan, content.results, content.evidence
    layouts = [data.layout for data in content.tables]
    named = _named(plan, layouts)
    bare = ref.removeprefix(r"\VAR{").removesuffix("}") if ref.startswith(r"\VAR{") else ref
    macro = named.get(bare.removeprefix("\\"))
    if macro is None and (jobs := _jobs(ref, plan) or _artefact(ref, content)):
        return {"ref": ref, "jobs": _chain(jobs, plan, results, evidence, runs)}
    if macro is None and ":" not in ref:
        titles = [title for job in plan.expansion.jobs.values() for title in _titles(job)]
        raise UsageError(
            f"{ref} is no table entry, macro, claim, table, figure or job of this spec",
            nearest=nearest(bare.removeprefix("\\"), [*named, *titles]),
            remedy=f"lwspec why {next(iter(entry_names(layouts)), 'TABLE:ROW/COLUMN')}",
        )
    entries = resolve(ref, layouts) if macro is None else list(macro.entries)
    found = [_entry(at, content) for at in entries]
    jobs = [job for entry in found for job in _evaluations(entry, plan)]
    chain = {"jobs": _chain(jobs, plan, results, evidence, runs)}
    if macro is not None and macro.claim:
        judged = next(one for one in content.claims if one.claim.name == macro.claim)
        return {"ref": ref, **_said(judged, plan), **chain}
    if len(entries) > 1:
        return {"ref": ref, "entries": ", ".join(map(name_of, entries)), **chain}
    return {"ref": ref, **_number(entries[0], found[0], content), **chain}


def _named(plan: Plan, layouts: Sequence[Layout]) -> dict[str, Macro]:
    """Every macro, placeholder and claim by its name."""
    made = macros(plan, layouts, pairs_of(plan, layouts))
    claims = {macro.claim: macro for macro in made if macro.claim}
    return claims | {name: m for m in made for name in (m.placeholder, m.name) if name}


def _titles(job: Job) -> tuple[str, str]:
    """What a job is called beside its id."""
    return f"{job.kind} {job.label}", job.label


def _artefact(ref: str, content: Content) -> list[Job]:
    """The measurements behind a whole table or figure, by its name or file."""
    cells = [
        cell
        for data in content.tables
        if ref in (data.layout.table.name, *data.layout.table.files)
        for entry in data.entries.values()
        for group in entry.groups
        for cell in group.cells
    ] or [
        cell
        for shown in content.figures
        if ref in (shown.figure.name, *shown.figure.files)
        for group in groups(content.plan, shown.figure.experiments)
        for cell in group.cells
    ]
    return [content.plan.expansion.jobs[id] for id in dict.fromkeys(c.evaluate for c in cells)]


def _entry(at: At, content: Content) -> Entry:
    layout, place = at
    name = layout.table.name
    return next(d for d in content.tables if d.layout.table.name == name).entries[place]


def _number(at: At, entry: Entry, content: Content) -> dict[str, Any]:
    layout, (row, column) = at
    found = entry.estimate
    data = next(d for d in content.tables if d.layout.table.name == layout.table.name)
    tested = data.tests.get((row, column))
    return {
        "table": layout.table.name,
        "row": row,
        "column": column,
        "metric": entry.metric,
        "value": found.mean if found else None,
        "interval": [found.low, found.high] if found else None,
        "method": found.method if found else entry.text,
        "runs": f"{entry.finished} of {entry.planned}",
        **({"test": " | ".join(filter(None, test_row(tested)[2:]))} if tested else {}),
        "spec": _spec_line(content.plan, entry),
    }


def _said(judged: Judged, plan: Plan) -> dict[str, Any]:
    names = [claim.name for claim in plan.loaded.spec.claim]
    return {
        "claim": judged.claim.name,
        "verdict": f"{judged.verdict.value} {judged.p_text}".strip(),
        "text": judged.text,
        "test": judged.test,
        "held": "; ".join(held.said for held in judged.held),
        "spec": plan.loaded.source.where(("claim", names.index(judged.claim.name))),
    }


def _jobs(ref: str, plan: Plan) -> list[Job]:
    """The job that an id begins like, or those of a label, with its kind or without."""
    jobs = plan.expansion.jobs.values()
    found = [job for job in jobs if len(ref) > 7 and job.id.startswith(ref)]
    return found if len(found) == 1 else [job for job in jobs if ref in _titles(job)]


def _evaluations(entry: Entry, plan: Plan) -> list[Job]:
    ids = dict.fromkeys(cell.evaluate for group in entry.groups for cell in group.cells)
    return [plan.expansion.jobs[job] for job in ids]


def _spec_line(plan: Plan, entry: Entry) -> str:
    cell: Cell = entry.group.cells[0]
    names = [experiment.name for experiment in plan.loaded.spec.experiment]
    return plan.loaded.source.where(("experiment", names.index(cell.experiment)))


def _chain(
    jobs: Sequence[Job], plan: Plan, results: Results, evidence: Evidence, runs: Path
) -> list[dict[str, Any]]:
    """Each job and, below it, what it was made from."""
    seen: dict[str, dict[str, Any]] = {}

    def visit(job: Job) -> None:
        if job.id in seen:
            return
        seen[job.id] = _describe(job, plan, results, evidence, runs)
        for source in job.inputs.values():
            visit(plan.expansion.jobs[source])

    for job in jobs:
        visit(job)
    return list(seen.values())


def _describe(
    job: Job, plan: Plan, results: Results, evidence: Evidence, runs: Path
) -> dict[str, Any]:
    outputs, state = results.outputs.get(job.id, {}), plan.states[job.id]
    tried = {number: row for (of, number), row in sorted(evidence.attempts.items()) if of == job.id}
    made: Mapping[str, Any] = {
        f"attempt {number}": {
            "outcome": _outcome(row, runs=state == State.RUNNING and number == max(tried)),
            **dict(attempt_lines(row)),
        }
        for number, row in tried.items()
    }
    files = {
        str(file_of(runs, output, name)): sha
        for output in outputs.values()
        for name, sha in output.files.items()
    }
    return {
        "job": job.id,
        "kind": job.kind,
        "label": job.label,
        "state": state,
        "metrics": {
            name: dict(output.metrics) for name, output in outputs.items() if output.metrics
        },
        "attempts": made,
        "files": files,
    }


def _outcome(row: Mapping[str, Any], *, runs: bool) -> str:
    """How an attempt ended, and what it said of that, or since when it runs."""
    if runs and row["outcome"] is None and row["started_at"] is not None:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(row["started_at"]))
        return f"running since {since} UTC"
    ended = row["outcome"] or "no end recorded"
    return f"{ended}: {row['message'].strip()}" if row["message"] else str(ended)
