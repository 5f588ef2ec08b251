"""A table's caption."""

from __future__ import annotations

from lwspec.engine.metrics import METRICS
from lwspec.report.tables.entries import TableData


def caption(data: TableData) -> str:
    """The spec's caption, and the units of the numbers, as plain text."""
    return " ".join([data.layout.table.caption, *_unit_notes(data)]).strip()


def _unit_notes(data: TableData) -> list[str]:
    """The unit, and the one metric where neither the spec's caption nor a column names it."""
    by_unit: dict[str, list[str]] = {}
    for metric in data.layout.table.metric:
        by_unit.setdefault(METRICS[metric].unit, []).append(METRICS[metric].heading)
    if len(by_unit) == 1:
        ((unit, headings),) = by_unit.items()
        said = f"{data.layout.table.caption} {unit}".lower()
        if not unit:
            return []
        if len(headings) > 1 or headings[0].lower() in said:
            return [f"In {unit}."]
        return [f"{headings[0][0].upper()}{headings[0][1:]}, in {unit}."]
    return [f"{', '.join(headings)}: in {unit}." for unit, headings in by_unit.items() if unit]
