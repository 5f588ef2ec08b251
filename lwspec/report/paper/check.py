"""The paper's template held against the plan before anything has run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lwspec.engine.plan import Plan
from lwspec.errors import nearest
from lwspec.report.content import make_content
from lwspec.report.evidence import NO_EVIDENCE
from lwspec.report.numbers import Numbers
from lwspec.report.paper.contract import NUMBERS, Complaint, unfilled, unused
from lwspec.report.paper.macros import macros, values
from lwspec.report.paper.template import fill, unknown_names
from lwspec.report.paper.words import words
from lwspec.report.query import Results
from lwspec.report.refs import pairs_of


@dataclass(frozen=True)
class Checked:
    """What a plan's paper asks for in vain, and the experiments of which it shows nothing."""

    unfilled: tuple[Complaint, ...] = ()
    unused: tuple[str, ...] = ()


def check_paper(plan: Plan, runs: Path) -> Checked:
    """Read the template. Raises SpecError where tables or claims name what no experiment has."""
    content = make_content(plan, Numbers(plan, Results({}), runs), NO_EVIDENCE)
    layouts = [data.layout for data in content.tables]
    named = macros(plan, layouts, pairs_of(plan, layouts))
    paper = plan.loaded.spec.paper
    if paper is None:
        return Checked()
    template = plan.loaded.source.path.parent / paper.template
    known = words(content, values(named, content))
    ours = {NUMBERS, *(path for each in content.tables for path in each.layout.table.files)}
    ours |= {shown.path for shown in content.figures}
    unknown = unknown_names(template, known, ours)
    complaints = [
        Complaint(f"{source}:{line}", rf"nothing fills \VAR{{{name}}}", nearest(name, known))
        for source, line, name in unknown
    ]
    # So that what reads files can be seen too, what is unknown stands for nothing.
    filled = fill(template, "paper.tex", {**known, **{name: "" for *_, name in unknown}}, ours)
    complaints += unfilled(filled, ours)
    return Checked(tuple(complaints), tuple(unused(plan, filled, layouts, named)))
