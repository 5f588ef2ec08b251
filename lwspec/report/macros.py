r"""numbers.tex: a macro for every entry of every table, so that prose holds no typed number.

`\MainBridgeTrec` is the mean as the table `main` prints it; `...Low`, `...High` its interval,
`...Seeds` how many seeds stand behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lwspec.errors import ReportError
from lwspec.report.latex import macro_name
from lwspec.report.tables import Entry, TableData


@dataclass(frozen=True)
class Macro:
    """A macro's name, its value, and the entry that it comes from."""

    name: str
    value: str
    table: str
    row: str
    column: str
    kind: str
    """mean, low, high, seeds or n."""


def macros(tables: Sequence[TableData]) -> list[Macro]:
    """Every macro. Raises ReportError where two entries would share a name."""
    found: dict[str, Macro] = {}
    for data in tables:
        for (row, column), entry in data.entries.items():
            base = macro_name(data.table.name, row, column)
            for kind, value in _values(entry):
                suffix = "" if kind == "mean" else kind.capitalize()
                macro = Macro(base + suffix, value, data.table.name, row, column, kind)
                other = found.get(macro.name)
                if other is not None:
                    raise ReportError(
                        f"the macro \\{macro.name} would stand for {other.table}:{other.row}/"
                        f"{other.column} and for {data.table.name}:{row}/{column}",
                        remedy="rename a table, an arm or a task",
                    )
                found[macro.name] = macro
    return list(found.values())


def _values(entry: Entry) -> Iterator[tuple[str, str]]:
    if entry.estimate is not None:
        yield "mean", entry.text
    if entry.interval is not None:
        yield "low", entry.interval[0]
        yield "high", entry.interval[1]
    if entry.group.cells[0].seeded:
        yield "seeds", f"{entry.finished} of {entry.planned}"
    if entry.n is not None:
        yield "n", f"{entry.n}"


def numbers_tex(found: Sequence[Macro]) -> str:
    """The file that a paper inputs; a number without a finished run has no macro."""
    lines = ["% Written by lwspec from results.db; every macro is a recorded number."]
    lines += [rf"\newcommand{{\{macro.name}}}{{{macro.value}}}" for macro in found]
    return "\n".join(lines) + "\n"
