"""What a report shows, computed once: the paper and the page are written from it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lwspec.engine.plan.plan import Plan
from lwspec.engine.spec.artefacts import Figure
from lwspec.report.claims import Judged, judge
from lwspec.report.evidence import Evidence
from lwspec.report.figures.comparisons import against_bytes, arms, latency
from lwspec.report.figures.curves import learning_curves, missing_epochs, sweep
from lwspec.report.figures.panel import Panel
from lwspec.report.numbers import Numbers
from lwspec.report.query import Results, groups
from lwspec.report.refs import pairs_of
from lwspec.report.tables.entries import TableData, table_data
from lwspec.report.tables.layout import layout

_PANELS = {
    "learning_curves": learning_curves,
    "sweep": sweep,
    "latency": latency,
    "bytes": against_bytes,
    "arms": arms,
}


@dataclass(frozen=True)
class FigureData:
    """A figure's panels, and the runs that it lacks."""

    figure: Figure
    panels: tuple[Panel, ...]
    """None where nothing that it shows has finished."""
    missing: tuple[str, ...]

    @property
    def path(self) -> str:
        """Where it is written, below the paper's folder."""
        return self.figure.files[0]


@dataclass(frozen=True)
class Content:
    """A spec's tables, figures and claims, filled from the records."""

    plan: Plan
    results: Results
    evidence: Evidence
    tables: tuple[TableData, ...]
    figures: tuple[FigureData, ...]
    claims: tuple[Judged, ...]

    @property
    def gaps(self) -> list[str]:
        """What the records could not fill, and the runs that are missing."""
        lines = []
        for data in self.tables:
            for (row, column), entry in data.entries.items():
                if entry.missing:
                    jobs = self.plan.expansion.jobs
                    labels = ", ".join(jobs[job].label for job in entry.missing)
                    lines.append(
                        f"table {data.layout.table.name}, {row}/{column}: {entry.finished} of "
                        f"{entry.planned} runs; missing: {labels}"
                    )
        return lines + [
            f"figure {f.figure.name}, {line}" for f in self.figures for line in f.missing
        ]


def make_content(plan: Plan, numbers: Numbers, evidence: Evidence) -> Content:
    """Compute everything that the spec promises. Raises SpecError for what it cannot mean."""
    spec = plan.loaded.spec
    layouts = [layout(table, plan) for table in spec.table]
    pairs = pairs_of(plan, layouts)
    tables = tuple(table_data(laid, numbers) for laid in layouts)
    figures = tuple(_figure(figure, numbers) for figure in spec.figure)
    claims = judge(plan, pairs, tables, numbers)
    return Content(plan, numbers.results, evidence, tables, figures, claims)


def _figure(figure: Figure, numbers: Numbers) -> FigureData:
    panels = [
        replace(panel, series=[one for one in panel.series if one.points])
        for panel in _PANELS[figure.kind](figure, numbers)
    ]
    missing = _missing_runs(figure, numbers)
    return FigureData(figure, tuple(panel for panel in panels if panel.series), tuple(missing))


def _missing_runs(figure: Figure, numbers: Numbers) -> list[str]:
    """What the records lack of a figure."""
    if figure.kind == "learning_curves":
        return missing_epochs(figure, numbers)
    jobs = numbers.plan.expansion.jobs
    return [
        jobs[job].label
        for group in groups(numbers.plan, figure.experiments)
        if not group.plan_only
        for job in numbers.found(group).missing
    ]
