"""results.md: every claim and table of a spec, under what stands behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lwspec.report.claims import Judged
from lwspec.report.content import Content
from lwspec.report.tables.caption import caption
from lwspec.report.tables.notes import notes
from lwspec.report.tables.plain import markdown_table


def results_md(content: Content) -> str:
    """The whole report as Markdown."""
    said = content.evidence.summary()
    head = (
        f"# {content.plan.loaded.spec.name}\n\nWritten by `lwspec report` from {said['jobs']} jobs "
        f"in {said['attempts']} attempts: {said['hours']} hours on {said['hardware']}, commit "
        f"{said['commits']}.\n"
    )
    tables = [
        markdown_table(data, caption(data), notes(data, content.plan, content.evidence))
        for data in content.tables
    ]
    return "\n".join([head, *_claims(content.claims), *tables])


def reported(folder: Path) -> str | None:
    """The spec whose results.md lies in a folder; None where there is none."""
    try:
        with (folder / "results.md").open(encoding="utf-8") as file:
            return file.readline().removeprefix("# ").rstrip("\n")
    except FileNotFoundError:
        return None


def _claims(claims: Sequence[Judged]) -> Iterator[str]:
    if claims:
        yield "## Claims\n"
    for judged in claims:
        p = f", {judged.p_text}" if judged.p_text else ""
        yield f"- **{judged.claim.name}**: {judged.verdict.value}{p}. {judged.text} {judged.test}"
        for held in judged.held:
            yield f"  - {held.said}: {held.gap:.1f} [{held.low:.1f}, {held.high:.1f}]"
    if claims:
        yield ""
