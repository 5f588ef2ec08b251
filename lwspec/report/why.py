"""The chain behind a number: spec line, runs, commit, command, hardware, predictions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lwspec.engine.expand import Cell
from lwspec.engine.job import Job
from lwspec.engine.plan import Plan
from lwspec.errors import UsageError, nearest
from lwspec.report.evidence import Evidence, attempt_lines
from lwspec.report.latex import macro_name
from lwspec.report.macros import macros
from lwspec.report.query import Results, file_of
from lwspec.report.tables import Entry, TableData, table_data

_TABLE_REF = re.compile(r"(?:tables/)?(?P<table>.+?)(?:\.tex)?:(?P<row>.+)/(?P<column>[^/]+)")


def explain(
    ref: str, plan: Plan, results: Results, evidence: Evidence, runs: Path
) -> dict[str, Any]:
    """The chain behind a table entry, a macro or a job. Raises UsageError for an unknown one."""
    tables = [table_data(table, plan, results) for table in plan.loaded.spec.table]
    job = _job(ref, plan)
    if job is not None:
        return {"ref": ref, "jobs": _chain([job], plan, results, evidence, runs)}
    data, row, column = _entry_ref(ref, tables)
    entry = data.entries[row, column]
    return {
        "ref": ref,
        "table": data.table.name,
        "row": row,
        "column": column,
        "metric": entry.metric,
        "value": entry.estimate.mean if entry.estimate else None,
        "interval": [entry.estimate.low, entry.estimate.high] if entry.estimate else None,
        "method": entry.estimate.method if entry.estimate else "no finished run",
        "runs": f"{entry.finished} of {entry.planned}",
        "spec": _spec_line(plan, entry),
        "jobs": _chain(_evaluations(entry, plan), plan, results, evidence, runs),
    }


def _job(ref: str, plan: Plan) -> Job | None:
    found = [job for job in plan.expansion.jobs.values() if len(ref) > 7 and job.id.startswith(ref)]
    return found[0] if len(found) == 1 else None


def _entry_ref(ref: str, tables: Sequence[TableData]) -> tuple[TableData, str, str]:
    """A table's file and entry, or a macro's name, to the entry."""
    names: dict[str, tuple[TableData, str, str]] = {}
    for data in tables:
        for row, column in data.entries:
            names[f"{data.table.name}:{row}/{column}"] = (data, row, column)
            if data.table.path is not None:
                names[f"{data.table.path.removesuffix('.tex')}:{row}/{column}"] = (
                    data,
                    row,
                    column,
                )
    match = _TABLE_REF.fullmatch(ref)
    if match is not None:
        wanted = f"{match['table']}:{match['row']}/{match['column']}"
        if wanted in names:
            return names[wanted]
        raise UsageError(f"there is no entry {wanted!r}", nearest=nearest(wanted, names))
    by_macro = {
        macro.name: names[f"{macro.table}:{macro.row}/{macro.column}"] for macro in macros(tables)
    }
    for data in tables:
        for row, column in data.entries:
            by_macro[macro_name(data.table.name, row, column)] = (data, row, column)
    name = ref.removeprefix("\\")
    if name in by_macro:
        return by_macro[name]
    raise UsageError(
        f"{ref} is no table entry, macro or job of this spec",
        nearest=nearest(name, by_macro),
        remedy=f"lwspec why {next(iter(names), 'tables/TABLE.tex:ROW/COLUMN')}",
    )


def _evaluations(entry: Entry, plan: Plan) -> list[Job]:
    ids = dict.fromkeys(cell.evaluate for cell in entry.group.cells)
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
        seen[job.id] = _describe(job, results, evidence, runs)
        for source in job.inputs.values():
            visit(plan.expansion.jobs[source])

    for job in jobs:
        visit(job)
    return list(seen.values())


def _describe(job: Job, results: Results, evidence: Evidence, runs: Path) -> dict[str, Any]:
    outputs = results.outputs.get(job.id, {})
    made: Mapping[str, Any] = {
        f"attempt {number}": dict(attempt_lines(evidence.attempts[job.id, number]))
        for number in evidence.makers.get(job.id, ())
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
        "metrics": {
            name: dict(output.metrics) for name, output in outputs.items() if output.metrics
        },
        "attempts": made,
        "files": files,
    }
