"""What the page shows, gathered from the report's content: texts and links, nothing computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lwspec.report.content import Content
from lwspec.report.page.behind import Behind, RunSet
from lwspec.report.page.claim import ShownClaim, show_claim
from lwspec.report.page.figure import Shown, show_figure
from lwspec.report.page.progress import Progress, experiments, not_done, total
from lwspec.report.page.runs import Run, runs_of
from lwspec.report.page.table import ShownTable, show_table


@dataclass(frozen=True)
class View:
    """Everything on the page."""

    name: str
    title: str
    """Of the paper; empty where the spec has none."""
    facts: tuple[tuple[str, str], ...]
    progress: tuple[Progress, ...]
    not_done: tuple[str, ...]
    gaps: tuple[str, ...]
    """What tables and figures lack."""
    claims: tuple[ShownClaim, ...]
    tables: tuple[ShownTable, ...]
    figures: tuple[Shown, ...]
    homes: dict[str, list[RunSet]]
    runs: tuple[Run, ...]


def make_view(content: Content) -> View:
    """Gather the page from the report's content."""
    plan, behind = content.plan, Behind(content.plan)
    tables = tuple(
        show_table(data, f"table-{number}", content, behind)
        for number, data in enumerate(content.tables, 1)
    )
    figures = tuple(
        show_figure(data, f"figure-{number}", behind)
        for number, data in enumerate(content.figures, 1)
    )
    claims = tuple(
        show_claim(judged, f"claim-{number}", content, behind)
        for number, judged in enumerate(content.claims, 1)
    )
    paper = plan.loaded.spec.paper
    return View(
        plan.loaded.spec.name,
        paper.title if paper else "",
        tuple(_facts(content)),
        (*experiments(content), total(content)),
        tuple(not_done(content)),
        tuple(content.gaps),
        claims,
        tables,
        figures,
        behind.by_home(),
        tuple(runs_of(behind.jobs(), content)),
    )


def _facts(content: Content) -> Sequence[tuple[str, str]]:
    plan, said = content.plan, content.evidence.summary()
    budget = plan.loaded.spec.budget
    newest = datetime.fromtimestamp(int(content.evidence.newest), UTC)
    return [
        ("Plan", plan.digest),
        ("Commit", said["commits"]),
        ("Hardware", said["hardware"]),
        (
            "Jobs with results",
            f"{said['jobs']} of {len(plan.states)}, in {said['attempts']} attempts",
        ),
        ("Hours of these jobs", said["hours"]),
        ("Budget spent", f"{plan.spent_hours:.2f} of {budget.gpu_hours:g} {budget.gpu} hours"),
        ("Newest record", f"{newest:%Y-%m-%d %H:%M:%S} UTC"),
    ]
