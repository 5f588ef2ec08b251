"""A claim as the page shows it: its verdict, and the numbers that it rests on."""

from __future__ import annotations

from dataclasses import dataclass

from lwspec.report.claims import Held, Judged
from lwspec.report.content import Content
from lwspec.report.page.behind import Behind
from lwspec.report.page.table import link_entry, measured
from lwspec.report.refs import At
from lwspec.report.tables.entries import TableData
from lwspec.report.tables.layout import Place
from lwspec.report.tables.plain import p_text


@dataclass(frozen=True)
class Side:
    """A number that a claim holds against another."""

    name: str
    """Empty, like the link, for a number that the spec states."""
    text: str
    link: str


@dataclass(frozen=True)
class HeldPair:
    """One column of a claim."""

    left: Side
    right: Side
    gap: str
    interval: str
    p: str
    n: str
    link: str
    """To the runs of both sides."""


@dataclass(frozen=True)
class ShownClaim:
    """A claim with its verdict, and the numbers that it rests on."""

    id: str
    judged: Judged
    relation: str
    gap: str
    """What the gap is: a difference or a ratio."""
    held: tuple[HeldPair, ...]


_RELATIONS = {
    "above": "left lies above right",
    "below": "left lies below right",
    "within": "left lies within {margin:g} of right",
    "times": "left is at least {factor:g} times right",
}


def show_claim(judged: Judged, id: str, content: Content, behind: Behind) -> ShownClaim:
    """A claim with each of its numbers linked to its runs."""
    claim = judged.claim
    said = _RELATIONS[claim.relation].format(margin=claim.margin, factor=claim.factor)
    if claim.relation in ("above", "below") and claim.margin:
        said += f" by more than {claim.margin:g}"
    gap = "Left over right" if claim.relation == "times" else "Left less right"
    pairs = tuple(_held(held, content, behind) for held in judged.held)
    return ShownClaim(id, judged, said, gap, pairs)


def _held(held: Held, content: Content, behind: Behind) -> HeldPair:
    left, right = held.pair.left, held.pair.right
    ends = [left] if isinstance(right, float) else [left, right]
    sides = [_entry(end, content) for end in ends]
    jobs = [job for data, place in sides for job in measured(data.entries[place], content.results)]
    links = [link_entry(data, place, content.results, behind) for data, place in sides]
    shown = f"{held.pair.left_name} and {held.pair.right_name}"
    return HeldPair(
        Side(held.pair.left_name, f"{held.left:.1f}", links[0]),
        Side(
            "" if isinstance(right, float) else held.pair.right_name,
            f"{held.right:.1f}",
            links[1] if len(links) > 1 else "",
        ),
        f"{held.gap:.1f}",
        f"[{held.low:.1f}, {held.high:.1f}]",
        p_text(held.p),
        held.n,
        behind.link(jobs, "claims", shown),
    )


def _entry(at: At, content: Content) -> tuple[TableData, Place]:
    layout, place = at
    name = layout.table.name
    return next(d for d in content.tables if d.layout.table.name == name), place
