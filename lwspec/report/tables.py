"""Tables: entries computed from the records, rendered as LaTeX from one description in the spec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lwspec.engine.plan import Plan
from lwspec.engine.spec import Table
from lwspec.report.latex import escape
from lwspec.report.query import Group, Output, Results, groups
from lwspec.report.stats import Estimate, over_items, over_seeds, over_seeds_and_items

PROPORTIONS = ("accuracy", "strict_accuracy", "unparsed_rate", "exact_match")
"""Shares of test items, for which an interval over items exists."""

PERCENT = (*PROPORTIONS, "macro_f1", "token_f1", "rouge1", "rouge2", "rougeL")

INTERVAL_NOTES = {
    "t over seeds and items": "Brackets: 95\\% interval over seeds and test items.",
    "Wilson": "Arms without a seed run once; their interval is over test items (Wilson).",
    "one seed": "One seed gives no interval.",
}


@dataclass(frozen=True)
class Entry:
    """One entry of a table: its estimate in the table's unit, and the runs behind it."""

    group: Group
    estimate: Estimate | None
    finished: int
    planned: int
    subset: bool
    n: int | None
    samples: int | None
    """Training rows of the fits behind it; None where nothing was trained."""
    missing: tuple[str, ...]
    """Ids of the evaluations that have not finished."""


@dataclass(frozen=True)
class TableData:
    """A table's rows and columns with their entries."""

    table: Table
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    entries: dict[tuple[str, str], Entry]


def table_data(table: Table, plan: Plan, results: Results) -> TableData:
    """Compute every entry of a table from the records."""
    found = groups(plan, table.experiments)
    homes: dict[str, set[str]] = {}
    for group in found:
        homes.setdefault(group.row, set()).add(group.experiment)
    entries = {}
    for group in found:
        row = group.row if len(homes[group.row]) == 1 else f"{group.row}, {group.experiment}"
        entries[row, group.task] = _entry(group, table.metric, results)
    rows = tuple(dict.fromkeys(row for row, _ in entries))
    columns = tuple(dict.fromkeys(column for _, column in entries))
    return TableData(table, rows, columns, entries)


def _entry(group: Group, metric: str, results: Results) -> Entry:
    """One number per evaluation; an arm without a seed has one evaluation for all seeds."""
    wanted = dict.fromkeys(cell.evaluate for cell in group.cells)
    found: list[Output] = []
    missing: list[str] = []
    for cell in group.cells:
        if cell.evaluate not in wanted:
            continue
        del wanted[cell.evaluate]
        output = results.evaluation(cell)
        if output is None:
            missing.append(cell.evaluate)
        else:
            found.append(output)
    values = [output.metrics[metric] for output in found if metric in output.metrics]
    n = int(found[0].facts["n"]) if found else None
    estimate = None
    if values:
        seeded = group.cells[0].seeded
        if not seeded and metric in PROPORTIONS and n is not None:
            estimate = over_items(values[0], n)
        elif seeded and metric in PROPORTIONS and n is not None:
            estimate = over_seeds_and_items(values, n)
        elif seeded:
            estimate = over_seeds(values)
        else:
            estimate = Estimate(values[0], None, None, "deterministic")
    return Entry(
        group,
        _scaled(estimate, 100.0 if metric in PERCENT else 1.0),
        len(found),
        len(found) + len(missing),
        any(output.facts["subset"] for output in found),
        n,
        _samples(group, results),
        tuple(missing),
    )


def _samples(group: Group, results: Results) -> int | None:
    epochs = [epoch for cell in group.cells for epoch in results.epochs(cell)]
    return int(epochs[0].facts["samples"]) if epochs else None


def _scaled(estimate: Estimate | None, factor: float) -> Estimate | None:
    if estimate is None:
        return None
    low = None if estimate.low is None else estimate.low * factor
    high = None if estimate.high is None else estimate.high * factor
    return Estimate(estimate.mean * factor, low, high, estimate.method)


def latex_table(data: TableData) -> str:
    """The table as a booktabs tabular with its caption and notes."""
    heads = [rf"\multicolumn{{1}}{{c}}{{{escape(column)}}}" for column in data.columns]
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{_caption(data)}}}",
        rf"\label{{tab:{escape_label(data.table.name)}}}",
        r"\small",
        r"\begin{tabular}{l" + "r" * len(data.columns) + "r}",
        r"\toprule",
        " & ".join(["Arm", *heads, "Seeds"]) + r" \\",
        r"\midrule",
    ]
    for row in data.rows:
        entries = [data.entries.get((row, column)) for column in data.columns]
        cells = [_latex_entry(entry) for entry in entries]
        lines.append(" & ".join([escape(row), *cells, _seeds(entries)]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def escape_label(name: str) -> str:
    """A name as a LaTeX label: other characters than letters, digits and hyphens become hyphens."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "-") else "-" for c in name)


def _latex_entry(entry: Entry | None) -> str:
    if entry is None:
        return "--"
    if entry.estimate is None:
        return r"\textit{not run}" if entry.missing else r"\textit{n/a}"
    text = f"{entry.estimate.mean:.1f}"
    if entry.estimate.low is not None:
        text += rf" {{\scriptsize [{entry.estimate.low:.1f}, {entry.estimate.high:.1f}]}}"
    return text + (r"$^\dagger$" if entry.subset else "")


def _seeds(entries: Sequence[Entry | None]) -> str:
    """How many of the planned seeds stand behind a row; `--` where seeds change nothing."""
    present = [entry for entry in entries if entry is not None]
    if present and not present[0].group.cells[0].seeded:
        return "--"
    counts = dict.fromkeys(f"{entry.finished} of {entry.planned}" for entry in present)
    return ", ".join(counts)


def _counted(what: str, counts: Sequence[tuple[str, int | None]]) -> list[str]:
    """How many rows stand behind each task's entries, all numbers named where they differ."""
    by_task: dict[str, set[int]] = {}
    for task, count in counts:
        if count is not None:
            by_task.setdefault(task, set()).add(count)
    each = [
        f"{escape(task)} {' or '.join(f'{n:,}' for n in sorted(found))}"
        for task, found in by_task.items()
    ]
    return [f"{what}: {', '.join(each)}."] if each else []


def _caption(data: TableData) -> str:
    """The spec's caption and what a reader must know to read the numbers."""
    present = list(data.entries.values())
    methods = {entry.estimate.method for entry in present if entry.estimate}
    notes = []
    if data.table.metric in PERCENT:
        notes.append("In per cent.")
    notes += [note for name, note in INTERVAL_NOTES.items() if any(name in m for m in methods)]
    notes += _counted("Test items", [(entry.group.task, entry.n) for entry in present])
    notes += _counted("Training rows", [(entry.group.task, entry.samples) for entry in present])
    if any(entry.subset for entry in present):
        notes.append(r"$^\dagger$ A declared subset of the test split.")
    missing = sum(len(entry.missing) for entry in present)
    if missing:
        notes.append(f"Evaluations that have not finished: {missing}.")
    return " ".join([escape(data.table.caption), *notes]).strip()
