"""A table as the page shows it: each number with the runs behind it, and its tests below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lwspec.report.content import Content
from lwspec.report.page.behind import Behind
from lwspec.report.query import Results
from lwspec.report.tables.caption import caption
from lwspec.report.tables.entries import OUTSIDE, Entry, TableData, Tested, seeds_behind
from lwspec.report.tables.layout import Place
from lwspec.report.tables.notes import notes
from lwspec.report.tables.plain import TEST_COLUMNS, test_row

DIFFERENCE = TEST_COLUMNS.index("difference")
NUMBERS = frozenset({"difference", "low", "high", "p", "p (Holm)", "effect"})
"""Columns of tests that hold numbers."""


@dataclass(frozen=True)
class Cell:
    """One entry."""

    text: str
    interval: str
    """With how many of its runs it rests on, where some are missing."""
    metric: str
    link: str
    """Empty where there is no number."""
    bold: bool
    subset: bool


@dataclass(frozen=True)
class Row:
    """A row of entries."""

    heading: str
    """The group that begins with it; empty where none does."""
    name: str
    cells: tuple[Cell, ...]
    seeds: str


@dataclass(frozen=True)
class TestRow:
    """A comparison, a text for each of TEST_COLUMNS."""

    texts: tuple[str, ...]
    link: str
    """To the runs of both sides; empty where there is no number."""


@dataclass(frozen=True)
class ShownTable:
    """Everything that the page shows of a table."""

    id: str
    name: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    grouped: bool
    caption: str
    notes: tuple[str, ...]
    tests: tuple[TestRow, ...]


def show_table(data: TableData, id: str, content: Content, behind: Behind) -> ShownTable:
    """Everything of a table, its numbers linked to their runs."""
    layout, results = data.layout, content.results
    return ShownTable(
        id,
        layout.table.name,
        "Task" if layout.table.rows == "tasks" else "Arm",
        layout.columns,
        tuple(_rows(data, results, behind)),
        bool(layout.headings),
        caption(data),
        tuple(notes(data, content.plan, content.evidence)),
        tuple(_test(data, tested, results, behind) for tested in data.tests.values()),
    )


def link_entry(data: TableData, place: Place, results: Results, behind: Behind) -> str:
    """The id of the page's entry for the runs behind a table's entry."""
    entry = data.entries[place]
    home, shown = f"table {data.layout.table.name}", "/".join(place)
    return behind.link(measured(entry, results), home, shown, entry.missing)


def measured(entry: Entry, results: Results) -> list[str]:
    """The finished measurements behind an entry."""
    return [
        cell.evaluate
        for group in entry.groups
        for cell in group.cells
        if results.evaluation(cell) is not None
    ]


def _rows(data: TableData, results: Results, behind: Behind) -> Sequence[Row]:
    rows, heading = [], ""
    for row in data.layout.rows:
        places = [(row, column) for column in data.layout.columns]
        entries = [data.entries.get(place) for place in places]
        new = data.layout.headings.get(row, "")
        cells = tuple(_cell(data, place, results, behind) for place in places)
        rows.append(Row(new if new != heading else "", row, cells, seeds_behind(entries)))
        heading = new
    return rows


def _cell(data: TableData, place: Place, results: Results, behind: Behind) -> Cell:
    entry = data.entries.get(place)
    if entry is None:
        return Cell(OUTSIDE, "", "", "", False, False)
    interval = f"[{', '.join(entry.interval)}]" if entry.interval else ""
    return Cell(
        entry.text,
        " ".join(filter(None, [interval, entry.some])),
        entry.metric,
        link_entry(data, place, results, behind) if entry.estimate else "",
        data.better(place),
        entry.subset and entry.estimate is not None,
    )


def _test(data: TableData, tested: Tested, results: Results, behind: Behind) -> TestRow:
    texts = tuple(test_row(tested))
    if not texts[DIFFERENCE]:
        return TestRow(texts, "")
    sides = [data.entries[tested.place], data.entries[tested.against]]
    jobs = [job for side in sides for job in measured(side, results)]
    shown = f"{'/'.join(tested.place)} less {'/'.join(tested.against)}"
    return TestRow(texts, behind.link(jobs, f"table {data.layout.table.name}", shown))
