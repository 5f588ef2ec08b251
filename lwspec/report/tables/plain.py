"""A table as Markdown and as CSV, and its tests as both."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from lwspec.report.statistics.intervals import Estimate
from lwspec.report.tables.entries import OUTSIDE, Entry, TableData, Tested, seeds_behind

TEST_COLUMNS = (
    "row", "column", "against", "difference", "low", "high", "test", "n", "p", "p (Holm)",
    "effect", "effect size",
)  # fmt: skip


def markdown_table(data: TableData, caption: str, notes: Sequence[str]) -> str:
    """The table under its name and its caption, its notes and its tests below."""
    corner = "task" if data.layout.table.rows == "tasks" else "arm"
    heads = [corner, *data.layout.columns, "seeds"]
    lines = [
        f"## {data.layout.table.name}",
        "",
        *([caption, ""] if caption else []),
        _line(heads),
        _line(["---", *("---:" for _ in heads[1:])]),
        *_rows(data),
    ]
    if notes:
        lines += ["", *(f"- {note}" for note in notes)]
    if data.tests:
        lines += ["", _line(TEST_COLUMNS), _line(["---"] * 3 + ["---:"] * 3 + ["---"] * 6)]
        lines += [_line(cells) for cells in test_rows(data)]
    return "\n".join(lines) + "\n"


def _rows(data: TableData) -> Iterator[str]:
    heading = None
    for row in data.layout.rows:
        new = data.layout.headings.get(row)
        if new is not None and new != heading:
            yield _line([f"*{new}*", *("" for _ in data.layout.columns), ""])
            heading = new
        entries = [data.entries.get((row, column)) for column in data.layout.columns]
        cells = [
            _entry(entry, bold=data.better((row, column)))
            for column, entry in zip(data.layout.columns, entries, strict=True)
        ]
        yield _line([row, *cells, seeds_behind(entries)])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _entry(entry: Entry | None, *, bold: bool) -> str:
    if entry is None:
        return OUTSIDE
    number = f"**{entry.text}**" if bold else entry.text
    interval = f" [{', '.join(entry.interval)}]" if entry.interval else ""
    some = f" {entry.some}" if entry.some else ""
    return f"{number}{interval}{some}" + ("\u2020" if entry.subset else "")


def csv_table(data: TableData) -> str:
    """One line an entry, with everything that is known of it; numbers to ten digits."""
    columns = (
        "row", "column", "metric", "value", "low", "high", "method", "finished", "planned", "n",
        "subset", "status",
    )  # fmt: skip
    lines = []
    for (row, column), entry in data.entries.items():
        estimate = entry.estimate
        lines.append(
            [
                row,
                column,
                entry.metric,
                *_digits(estimate),
                None if estimate is None else estimate.method,
                entry.finished,
                entry.planned,
                entry.n,
                entry.subset,
                entry.text if estimate is None else "measured",
            ]
        )
    return _csv(columns, lines)


def _digits(estimate: Estimate | None) -> list[str | None]:
    """Mean and ends without the last digits, which a share times 100 does not have right."""
    ends = (None,) * 3 if estimate is None else (estimate.mean, estimate.low, estimate.high)
    return [None if value is None else f"{value:.10g}" for value in ends]


def csv_tests(data: TableData) -> str:
    """One line a comparison."""
    return _csv(TEST_COLUMNS, test_rows(data))


def test_rows(data: TableData) -> list[list[str]]:
    """Each comparison of a table with its test, n, p-value before and after correction."""
    return [test_row(tested) for tested in data.tests.values()]


def test_row(tested: Tested) -> list[str]:
    """One comparison, a text for each of TEST_COLUMNS."""
    row, column = tested.place
    against = tested.against[0] if tested.against[1] == column else tested.against[1]
    found = tested.comparison
    if found is None:
        return [row, column, against, "", "", "", f"none: {tested.why}", "", "", "", "", ""]
    effect = "" if found.effect is None else f"{found.effect:.2f}"
    return [
        row,
        column,
        against,
        f"{found.difference:+.1f}",
        f"{found.low:.1f}",
        f"{found.high:.1f}",
        found.test if found.p is not None else f"none: {tested.why}",
        found.n,
        p_text(found.p),
        p_text(tested.adjusted),
        effect,
        found.effect_name,
    ]


def p_text(p: float | None) -> str:
    """A p-value as it is printed."""
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _csv(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return out.getvalue()
