"""One table's data as LaTeX and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from lwspec.report.latex import escape
from lwspec.report.tables import OUTSIDE, Entry, TableData, seeds_behind


def latex_table(data: TableData, caption: str) -> str:
    """The table as a booktabs tabular with its caption."""
    heads = [rf"\multicolumn{{1}}{{c}}{{{escape(column)}}}" for column in data.columns]
    tabular = [
        r"\begin{tabular}{l" + "r" * len(data.columns) + "r}",
        r"\toprule",
        " & ".join(["Arm", *heads, "Seeds"]) + r" \\",
        r"\midrule",
        *(
            " & ".join([escape(row), *map(_latex_entry, entries), seeds_behind(entries)]) + r" \\"
            for row, entries in _rows(data)
        ),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{escape(caption)}}}",
        rf"\label{{tab:{escape_label(data.table.name)}}}",
        r"\small",
        r"\adjustbox{max width=\linewidth}{%",
        *tabular,
        "}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape_label(name: str) -> str:
    """A name as a LaTeX label: other characters than letters, digits and hyphens become hyphens."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "-") else "-" for c in name)


def markdown_table(data: TableData, caption: str) -> str:
    """The table in Markdown under its name, its caption below."""
    heads = ["arm", *data.columns, "seeds"]
    lines = [
        f"## {data.table.name}",
        "",
        _markdown_row(heads),
        _markdown_row(["---", *("---:" for _ in heads[1:])]),
        *(
            _markdown_row([row, *map(_markdown_entry, entries), seeds_behind(entries)])
            for row, entries in _rows(data)
        ),
        "",
        caption,
    ]
    return "\n".join(lines) + "\n"


def _rows(data: TableData) -> list[tuple[str, list[Entry | None]]]:
    return [(row, [data.entries.get((row, c)) for c in data.columns]) for row in data.rows]


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _markdown_entry(entry: Entry | None) -> str:
    if entry is None:
        return OUTSIDE
    interval = f" [{', '.join(entry.interval)}]" if entry.interval else ""
    return f"{entry.text}{interval}" + ("\u2020" if entry.subset else "")


def _latex_entry(entry: Entry | None) -> str:
    if entry is None:
        return OUTSIDE
    if entry.estimate is None:
        return rf"\textit{{{entry.text}}}"
    interval = rf" {{\scriptsize [{', '.join(entry.interval)}]}}" if entry.interval else ""
    return f"{entry.text}{interval}" + (r"$^\dagger$" if entry.subset else "")
