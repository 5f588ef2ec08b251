"""Tables: entries computed from the records, from one description in the spec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lwspec.engine.metrics import METRICS, Metric
from lwspec.engine.plan import Plan
from lwspec.engine.spec import Table
from lwspec.report.query import Group, Output, Results, groups
from lwspec.report.stats import ONE_SEED, Estimate, over_items, over_seeds, over_seeds_and_items

INTERVAL_NOTES = {
    "t over seeds and items": "Brackets: 95% interval over seeds and test items.",
    "t over seeds": "Brackets: 95% interval over seeds.",
    "Wilson": "Arms without a seed run once; their interval is over test items (Wilson).",
    ONE_SEED: "One seed gives no interval.",
    "deterministic": "Arms without a seed run once.",
}

NOT_RUN, PLANNED, UNDEFINED, OUTSIDE = "not run", "plan only", "n/a", "--"
"""What stands in an entry without a number; the caption says what it means."""


@dataclass(frozen=True)
class Entry:
    """One entry of a table: its estimate in the metric's unit, and the runs behind it."""

    group: Group
    metric: str
    estimate: Estimate | None
    finished: int
    planned: int
    subset: bool
    n: int | None
    samples: int | None
    """Training rows of the fits behind it; None where nothing was trained."""
    passes: int | None
    """Timed passes behind a latency; None where the entry is none."""
    hardware: str | None
    """What a latency was timed on."""
    missing: tuple[str, ...]
    """Ids of the measurements that have not finished."""

    @property
    def text(self) -> str:
        """The number as tables and macros print it, or why there is none."""
        if self.estimate is None:
            return self._why_empty
        return f"{self.estimate.mean:.1f}"

    @property
    def _why_empty(self) -> str:
        if self.group.plan_only:
            return PLANNED
        return NOT_RUN if self.missing else UNDEFINED

    @property
    def interval(self) -> tuple[str, str] | None:
        """The interval's ends as they are printed."""
        if self.estimate is None or self.estimate.low is None or self.estimate.high is None:
            return None
        return f"{self.estimate.low:.1f}", f"{self.estimate.high:.1f}"


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
    tasks = list(dict.fromkeys(group.task for group in found))
    entries = {}
    for group in found:
        row = group.row if len(homes[group.row]) == 1 else f"{group.row}, {group.experiment}"
        for metric in table.metric:
            column = _column(group.task, METRICS[metric], len(tasks), len(table.metric))
            entries[row, column] = table_entry(group, metric, results)
    rows = tuple(dict.fromkeys(row for row, _ in entries))
    columns = tuple(
        _column(task, METRICS[metric], len(tasks), len(table.metric))
        for task in tasks
        for metric in table.metric
    )
    return TableData(table, rows, columns, entries)


def _column(task: str, metric: Metric, tasks: int, metrics: int) -> str:
    """A column's heading: the task, the metric where there is one task, or both."""
    if metrics == 1:
        return task
    return metric.heading if tasks == 1 else f"{task} {metric.heading}"


def table_entry(group: Group, metric: str, results: Results) -> Entry:
    """One number a measurement; an arm without a seed has one for all seeds."""
    wanted = {cell.evaluate: results.evaluation(cell) for cell in group.cells}
    found = [output for output in wanted.values() if output is not None]
    facts = found[0].facts if found else {}
    return Entry(
        group,
        metric,
        _estimate(group, metric, found),
        len(found),
        len(wanted),
        any(output.facts.get("subset") for output in found),
        facts.get("n"),
        _samples(group, results),
        facts.get("passes"),
        facts.get("hardware"),
        () if group.plan_only else tuple(job for job, out in wanted.items() if out is None),
    )


def _estimate(group: Group, metric: str, found: Sequence[Output]) -> Estimate | None:
    """The mean over measurements in the metric's unit, and the interval that belongs to it."""
    shown = METRICS[metric]
    values = [output.metrics[metric] for output in found if metric in output.metrics]
    if not values:
        return None
    n = found[0].facts.get("n")
    seeded = group.cells[0].seeded
    if shown.share and n is not None:
        estimate = over_seeds_and_items(values, n) if seeded else over_items(values[0], n)
    elif seeded:
        estimate = over_seeds(values)
    else:
        estimate = Estimate(values[0], None, None, "deterministic")
    return _scaled(estimate, shown.factor)


def _samples(group: Group, results: Results) -> int | None:
    epochs = [epoch for cell in group.cells for epoch in results.epochs(cell)]
    return int(epochs[0].facts["samples"]) if epochs else None


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    low = None if estimate.low is None else estimate.low * factor
    high = None if estimate.high is None else estimate.high * factor
    return Estimate(estimate.mean * factor, low, high, estimate.method)


def seeds_behind(entries: Sequence[Entry | None]) -> str:
    """How many of the planned seeds stand behind a row; `--` where seeds change nothing."""
    present = [entry for entry in entries if entry is not None]
    if present and not present[0].group.cells[0].seeded:
        return OUTSIDE
    return ", ".join(dict.fromkeys(f"{entry.finished} of {entry.planned}" for entry in present))


def caption(data: TableData, plan: Plan) -> str:
    """The spec's caption, and what a reader must know to read the numbers, as plain text."""
    present = list(data.entries.values())
    notes = [*_pairs(data, plan), *_unit_notes(data)]
    methods = {entry.estimate.method for entry in present if entry.estimate}
    notes += [note for name, note in INTERVAL_NOTES.items() if _named(name, methods)]
    notes += _counted("Test items", [(entry.group.task, entry.n) for entry in present])
    notes += _counted("Training rows", [(entry.group.task, entry.samples) for entry in present])
    notes += _epoch_notes(data, plan)
    passes = sorted({entry.passes for entry in present if entry.passes is not None})
    if passes:
        listed = " or ".join(map(str, passes))
        machines = "; ".join(sorted({entry.hardware for entry in present if entry.hardware}))
        notes.append(
            f"Timed on {machines} over {listed} passes after warm-up; a receiver writes "
            f"{_new_tokens(present, plan)} tokens."
        )
    if any(entry.subset for entry in present):
        notes.append("\u2020 A declared subset of the test split.")
    missing = len({job for entry in present for job in entry.missing})
    if missing:
        notes.append(f"\u201c{NOT_RUN}\u201d: not finished yet, {missing} in all.")
    if any(entry.text == PLANNED for entry in present):
        notes.append(f"\u201c{PLANNED}\u201d: priced, and not meant to be run yet.")
    if any(entry.text == UNDEFINED for entry in present):
        notes.append(f"\u201c{UNDEFINED}\u201d: the metric is not defined for the arm.")
    if len(present) < len(data.rows) * len(data.columns):
        notes.append(f"\u201c{OUTSIDE}\u201d: not part of the plan.")
    return " ".join([data.table.caption, *notes]).strip()


def _new_tokens(present: Sequence[Entry], plan: Plan) -> str:
    """How many tokens the receivers of timed arms write."""
    jobs = [plan.expansion.jobs[cell.evaluate] for entry in present for cell in entry.group.cells]
    counts = {job.settings["latency"]["new_tokens"] for job in jobs if job.kind == "latency"}
    return " or ".join(str(count) for count in sorted(counts))


def _pairs(data: TableData, plan: Plan) -> list[str]:
    """Who sends to whom, where that differs between rows."""
    experiments = {e.name: e for e in plan.loaded.spec.experiment}
    homes: dict[str, list[str]] = {}
    for name in dict.fromkeys(entry.group.experiment for entry in data.entries.values()):
        pair = f"{experiments[name].sender} to {experiments[name].receiver}"
        homes.setdefault(pair, []).append(name)
    if len(homes) < 2:
        return []
    listed = "; ".join(f"{pair} in {', '.join(names)}" for pair, names in homes.items())
    return [f"Sender to receiver: {listed}."]


def _named(name: str, methods: set[str]) -> bool:
    """Whether an interval's note applies; Wilson's methods say how many items they are over."""
    return any(
        method.startswith(name) if name == "Wilson" else method == name for method in methods
    )


def _unit_notes(data: TableData) -> list[str]:
    units = {METRICS[metric].unit for metric in data.table.metric}
    if len(units) == 1:
        return [f"In {unit}." for unit in units]
    by_unit: dict[str, list[str]] = {}
    for metric in data.table.metric:
        by_unit.setdefault(METRICS[metric].unit, []).append(METRICS[metric].heading)
    return [f"{', '.join(headings)}: in {unit}." for unit, headings in by_unit.items()]


def _counted(what: str, counts: Sequence[tuple[str, int | None]]) -> list[str]:
    """How many rows stand behind each task's entries, all numbers named where they differ."""
    by_task: dict[str, set[int]] = {}
    for task, count in counts:
        if count is not None:
            by_task.setdefault(task, set()).add(count)
    each = [
        f"{task} {' or '.join(f'{n:,}' for n in sorted(found))}" for task, found in by_task.items()
    ]
    return [f"{what}: {', '.join(each)}."] if each else []


def _epoch_notes(data: TableData, plan: Plan) -> list[str]:
    """For how long the arms were trained, where any was trained over epochs."""
    jobs = plan.expansion.jobs
    epochs = set()
    for entry in data.entries.values():
        for cell in entry.group.cells:
            fit = jobs[cell.fit] if cell.fit else None
            if fit is not None and "train" in fit.settings:
                ((_, count),) = jobs[cell.evaluate].settings["checkpoint"].items()
                epochs.add(int(count))
    listed = " or ".join(str(count) for count in sorted(epochs))
    return [f"Epochs: {listed}."] if epochs else []
