"""Claims of the spec held against the records: what the paper may say, and the test behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from lwspec.engine.metrics import METRICS, Metric
from lwspec.engine.plan.plan import Plan
from lwspec.engine.spec.artefacts import Claim
from lwspec.report.numbers import Numbers
from lwspec.report.refs import Pair
from lwspec.report.statistics.spread import LEVEL, Spread
from lwspec.report.statistics.tests import LEAST_SEEDS, holm, most_apart, p_alike
from lwspec.report.tables.entries import SIGNIFICANT, Entry, TableData
from lwspec.report.tables.layout import Layout, Place


class Verdict(StrEnum):
    """What the records say of a claim."""

    SUPPORTED = "supported"
    NOT_SUPPORTED = "not supported"
    UNTESTED = "untested"


@dataclass(frozen=True)
class Held:
    """One column of a claim after the test."""

    pair: Pair
    left: float
    right: float
    gap: float
    """Left less right; for a ratio, left over right."""
    low: float
    high: float
    p: float
    n: str
    alike: bool = False
    """Whether both sides score every item alike, which leaves no spread for a t test."""

    @property
    def said(self) -> str:
        """Both sides with their values."""
        right = f"{self.right:.1f}"
        if not isinstance(self.pair.right, float):
            right = f"{self.pair.right_name} {right}"
        return f"{self.pair.left_name} {self.left:.1f} against {right}"


@dataclass(frozen=True)
class Judged:
    """A claim, what became of it, and what the paper says."""

    claim: Claim
    verdict: Verdict
    text: str
    held: tuple[Held, ...]
    why: str
    """Why it was not tested; empty where it was."""
    p: float | None
    """The largest p of its columns: it must hold in each."""
    adjusted: float | None
    """After Holm's correction over the claims that were tested."""

    @property
    def p_text(self) -> str:
        """The corrected p-value as it is printed; empty where nothing was tested."""
        if self.adjusted is None:
            return ""
        return "p < 0.001" if self.adjusted < 0.001 else f"p = {self.adjusted:.3f}"

    @property
    def test(self) -> str:
        """The test's name, n and correction, in one sentence."""
        if self.p is None:
            return f"Not tested: {self.why}."
        relation, what = self.claim.relation, "difference"
        if relation == "times":
            what = f"ratio to {self.claim.factor:g} (delta method on logarithms)"
        margin = f" from {self.claim.margin:g}" if self.claim.margin else ""
        kind = "two one-sided t tests" if relation == "within" else f"t test of the {what}{margin}"
        n = "; ".join(dict.fromkeys(held.n for held in self.held))
        by = f"{kind} over seeds and items"
        alike = {held.alike for held in self.held}
        if alike == {True}:
            by = "an exact test over items, which all score alike"
        elif True in alike:
            by += ", where all items score alike by an exact test"
        return f"By {by}, {n}, corrected over the claims by Holm's method."


def judge(
    plan: Plan, pairs: Mapping[str, Sequence[Pair]], tables: Sequence[TableData], numbers: Numbers
) -> tuple[Judged, ...]:
    """Judge every claim of the spec from the tables' entries."""
    entries = {id(data.layout): data for data in tables}
    judged = [_judge(c, pairs[c.name], entries, numbers) for c in plan.loaded.spec.claim]
    tested = [one for one in judged if one.p is not None]
    adjusted = iter(holm([one.p for one in tested if one.p is not None]))
    return tuple(_decide(one, next(adjusted) if one.p is not None else None) for one in judged)


def _judge(
    claim: Claim, pairs: Sequence[Pair], tables: Mapping[int, TableData], numbers: Numbers
) -> Judged:
    held = []
    for pair in pairs:
        sides = [_entry(pair.left, tables)]
        if not isinstance(pair.right, float):
            sides.append(_entry(pair.right, tables))
        why = next(filter(None, map(_unready, sides)), "")
        made = None if why else _hold(claim, pair, sides, numbers)
        if made is None:
            why = why or "the records hold no spread to test with"
            return Judged(claim, Verdict.UNTESTED, _untested(claim), (), why, None, None)
        held.append(made)
    return Judged(claim, Verdict.UNTESTED, "", tuple(held), "", max(one.p for one in held), None)


def _entry(at: tuple[Layout, Place], tables: Mapping[int, TableData]) -> Entry:
    return tables[id(at[0])].entries[at[1]]


def _unready(entry: Entry) -> str:
    """Why an entry cannot be tested yet; empty where it can."""
    if entry.estimate is None:
        return f"{entry.group.row} on {entry.group.task} is {entry.text}"
    if entry.missing:
        return f"{entry.group.row} on {entry.group.task} has {entry.finished} of {entry.planned}"
    over_passes = f"{entry.metric}_sd" in METRICS  # of a timing: seeds change nothing
    if entry.group.cells[0].seeded and not over_passes and entry.finished < LEAST_SEEDS:
        return f"{entry.group.row} has fewer than {LEAST_SEEDS} seeds"
    return ""


def _hold(claim: Claim, pair: Pair, sides: Sequence[Entry], numbers: Numbers) -> Held | None:
    """Test one pair; None where nothing is known of its spread."""
    estimates = [side.estimate for side in sides if side.estimate is not None]
    left = estimates[0].mean
    right = pair.right if isinstance(pair.right, float) else estimates[1].mean
    n = _n(sides)
    if claim.relation == "times":
        if left <= 0 or right <= 0:
            return None
        parts = [e.spread.scaled(1 / e.mean**2) for e in estimates]
        spread, gap = sum(parts, Spread(())), math.log(left / right)
        p = _above(gap, math.log(claim.factor), spread)
        half = spread.half(LEVEL)
        ends = (math.exp(gap - half), math.exp(gap + half))
        return None if p is None else Held(pair, left, right, left / right, *ends, p, n)
    found = None
    if len(sides) == 2 and sides[0].metric == sides[1].metric:
        of = (sides[0].group, sides[1].group, sides[0].metric)
        items = numbers.alike(*of)
        if items is not None:
            same = Held(pair, left, right, 0.0, 0.0, 0.0, 1.0, n, alike=True)
            return _hold_alike(claim, same, METRICS[sides[0].metric], items)
        found = numbers.spread(*of)
    gap, spread = found or (left - right, sum((e.spread for e in estimates), Spread(())))
    if claim.relation == "above":
        p = _above(gap, claim.margin, spread)
    elif claim.relation == "below":
        p = _above(-gap, claim.margin, spread)
    else:
        ends_p = [_above(gap, -claim.margin, spread), _above(-gap, -claim.margin, spread)]
        p = None if None in ends_p else max(one for one in ends_p if one is not None)
    half = spread.half(LEVEL)
    return None if p is None else Held(pair, left, right, gap, gap - half, gap + half, p, n)


def _hold_alike(claim: Claim, held: Held, metric: Metric, items: int) -> Held | None:
    """Test two sides that score every item alike: neither lies above, and how close they are.

    That is known only of scores with a least and a most.
    """
    if metric.unit != "per cent":
        return None if claim.relation == "within" else held
    apart = metric.factor * most_apart(items)
    p = p_alike(items, claim.margin / metric.factor) if claim.relation == "within" else 1.0
    return replace(held, low=-apart, high=apart, p=p)


def _above(gap: float, least: float, spread: Spread) -> float | None:
    """The one-sided p-value for a gap above `least`."""
    p = spread.p_value(gap - least)
    if p is None:
        return None
    return p / 2 if gap > least else 1 - p / 2


def _n(sides: Sequence[Entry]) -> str:
    words = []
    seeds = {side.finished for side in sides if side.group.cells[0].seeded}
    if seeds:
        words.append(f"{' and '.join(map(str, sorted(seeds)))} seeds")
    items = sorted({side.n for side in sides if side.n is not None})
    if items:
        words.append(f"{' and '.join(f'{n:,}' for n in items)} items")
    passes = sorted({side.passes for side in sides if side.passes is not None})
    if passes:
        words = [f"{' and '.join(map(str, passes))} passes"]
    return ", ".join(words)


def _decide(judged: Judged, adjusted: float | None) -> Judged:
    if adjusted is None:
        return judged
    supported = adjusted < SIGNIFICANT
    text = judged.claim.says if supported else judged.claim.otherwise
    return replace(
        judged,
        verdict=Verdict.SUPPORTED if supported else Verdict.NOT_SUPPORTED,
        text=_filled(text, judged.held),
        adjusted=adjusted,
    )


def _untested(claim: Claim) -> str:
    return claim.untested or f"The claim {claim.name} was not tested."


def _filled(text: str, held: Sequence[Held]) -> str:
    """The sentence with its numbers: {left}, {right}, {gap}, one for each column."""
    words = {
        "left": [f"{one.left:.1f}" for one in held],
        "right": [f"{one.right:.1f}" for one in held],
        "gap": [f"{one.gap:.1f} [{one.low:.1f}, {one.high:.1f}]" for one in held],
    }
    for name, values in words.items():
        text = text.replace(f"{{{name}}}", ", ".join(values))
    return text
