"""The paper's template held against the plan before anything has run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lwspec.engine.plan.plan import Plan
from lwspec.report.content import Content, make_content
from lwspec.report.evidence import NO_EVIDENCE
from lwspec.report.numbers import Numbers
from lwspec.report.paper.by_hand import by_hand
from lwspec.report.paper.contract import (
    NUMBERS,
    Complaint,
    Said,
    fill_known,
    said_by_spec,
    unsaid,
    unused,
)
from lwspec.report.paper.latex import escape
from lwspec.report.paper.macros import macros, values
from lwspec.report.paper.template import Filled
from lwspec.report.paper.words import words
from lwspec.report.query import Results
from lwspec.report.refs import pairs_of
from lwspec.report.tables.caption import caption
from lwspec.report.tables.latex import latex_table
from lwspec.report.tables.notes import notes


@dataclass(frozen=True)
class Checked:
    """What a plan's paper asks for in vain, the experiments of which it shows nothing,
    the words that it must not use, and what it shows that no record will have made."""

    unfilled: tuple[Complaint, ...] = ()
    unused: tuple[str, ...] = ()
    forbidden: tuple[Complaint, ...] = ()
    """Words that the spec forbids; whether a claim bears its words out is known after the runs."""
    by_hand: tuple[Complaint, ...] = ()
    """What it shows that no record will have made."""


def check_paper(plan: Plan, runs: Path) -> Checked:
    """Read the template. Raises SpecError where tables or claims name what no experiment has."""
    content = make_content(plan, Numbers(plan, Results({}), runs), NO_EVIDENCE)
    layouts = [data.layout for data in content.tables]
    named = macros(plan, layouts, pairs_of(plan, layouts))
    paper = plan.loaded.spec.paper
    if paper is None:
        return Checked()
    template = plan.loaded.source.path.parent / paper.template
    ours = {NUMBERS, *(path for each in content.tables for path in each.layout.table.files)}
    ours |= {shown.path for shown in content.figures}
    filled, complaints = fill_known(
        template, "paper.tex", words(content, values(named, content)), ours
    )
    forbidden = _forbidden(content, filled, paper.never)
    unshown = tuple(unused(plan, filled, layouts, named))
    return Checked(tuple(complaints), unshown, tuple(forbidden), tuple(by_hand(filled)))


def _forbidden(content: Content, filled: Filled, never: Sequence[str]) -> list[Complaint]:
    """Every word that the spec forbids in what the paper is known to say, or may come to say."""
    plan = content.plan
    said = said_by_spec(content)
    for index, claim in enumerate(plan.loaded.spec.claim):
        for key in ("says", "otherwise"):
            text = escape(getattr(claim, key))
            said.append(Said(f"the claim {claim.name!r}", ("claim", index, key), text))
    texts = {
        each.layout.path: latex_table(each, caption(each), notes(each, plan, content.evidence))
        for each in content.tables
    }
    texts[NUMBERS] = "\n".join(one.text for one in said if one.at[0] == "claim")
    return unsaid(filled, texts, (), never, said, plan.loaded.source)
