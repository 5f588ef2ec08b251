"""A table as LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lwspec.report.paper.latex import escape, escape_label
from lwspec.report.tables.entries import OUTSIDE, Entry, TableData, seeds_behind


def latex_table(data: TableData, caption: str, notes: Sequence[str]) -> str:
    """A booktabs tabular under its caption, above the first of its notes; the others follow it.

    Numbers are aligned at the point, intervals stand beside them. A float does not break over
    pages, so that what could make it longer than one stands behind it.
    """
    columns = data.layout.columns
    heads = [_spanned(escape(column), _width(column, data)) for column in columns]
    kinds = ["r" if _width(column, data) == 1 else r"r@{\hspace{0.3em}}l" for column in columns]
    corner = "Task" if data.layout.table.rows == "tasks" else "Arm"
    tabular = [
        rf"\begin{{tabular}}{{@{{}}l{''.join(kinds)}r@{{}}}}",
        r"\toprule",
        " & ".join([corner, *heads, "Seeds"]) + r" \\",
        r"\midrule",
        *_body(data),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    label = f"tab:{escape_label(data.layout.table.name)}"
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{escape(caption)}}}",
        rf"\label{{{label}}}",
        r"\small",
        r"\adjustbox{max width=\linewidth}{%",
        *tabular,
        "}",
        *_below(notes[:1]),
        r"\end{table}",
        *_behind(notes[1:], label),
    ]
    return "\n".join(lines) + "\n"


def _below(notes: Sequence[str]) -> list[str]:
    if not notes:
        return []
    return [
        r"\par\medskip",
        r"\begin{minipage}{\linewidth}",
        r"\footnotesize",
        *map(escape, notes),
        r"\end{minipage}",
    ]


def _behind(notes: Sequence[str], label: str) -> list[str]:
    if not notes:
        return []
    begin, end = r"\par\begingroup\footnotesize\parindent=0pt", r"\par\endgroup"
    return [begin, rf"Notes to Table~\ref{{{label}}}. " + "\n\n".join(map(escape, notes)), end]


def _width(column: str, data: TableData) -> int:
    """Two where anything stands beside the numbers of a column, else one."""
    entries = [entry for (_, at), entry in data.entries.items() if at == column]
    return 2 if any(entry.interval or entry.subset or entry.some for entry in entries) else 1


def _spanned(text: str, width: int) -> str:
    return text if width == 1 else rf"\multicolumn{{{width}}}{{c}}{{{text}}}"


def _body(data: TableData) -> Iterator[str]:
    heading = None
    for row in data.layout.rows:
        new = data.layout.headings.get(row)
        if new is not None and new != heading:
            if heading is not None:
                yield r"\addlinespace"
            width = 2 + sum(_width(column, data) for column in data.layout.columns)
            yield rf"\multicolumn{{{width}}}{{@{{}}l}}{{\textit{{{escape(new)}}}}} \\"
            heading = new
        entries = [data.entries.get((row, column)) for column in data.layout.columns]
        cells = [
            _entry(entry, _width(column, data), bold=data.better((row, column)))
            for column, entry in zip(data.layout.columns, entries, strict=True)
        ]
        # Behind the end of a row, a bracket or a star would be read as its argument.
        indent = r"\quad " if new is not None else "{}" if row[0] in "[*" else ""
        yield " & ".join([indent + escape(row), *cells, seeds_behind(entries)]) + r" \\"


def _entry(entry: Entry | None, width: int, *, bold: bool) -> str:
    """An entry: the number and, in a column of its own, its interval; a mark for drawn rows."""
    if entry is None:
        return OUTSIDE if width == 1 else rf"{OUTSIDE} & "
    if entry.estimate is None:
        return _spanned(rf"\textit{{{entry.text}}}", width)
    number = rf"\textbf{{{entry.text}}}" if bold else entry.text
    if width == 1:
        return number
    mark = r"$^\dagger$" if entry.subset else ""
    interval = f"[{', '.join(entry.interval)}]" if entry.interval else ""
    beside = " ".join(filter(None, (interval, entry.some)))
    return rf"{number} & {mark}{{\scriptsize {beside}}}" if beside else f"{number} & {mark}"
