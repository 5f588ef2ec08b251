r"""The names by which prose refers to recorded numbers and judged claims.

The entry `main:bridge/trec` is the macro `\MainBridgeTrec` of numbers.tex and the placeholder
`\VAR{MAIN_BRIDGE_TREC}` of a template; with Low and High (`_LOW`, `_HIGH`) for its interval, Seeds
for how many seeds stand behind it, and N for its test items. A claim `gemma` is `\ClaimGemma` and
`\VAR{CLAIM_GEMMA}`. Which names there are follows from the spec alone, before anything has run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lwspec.engine.plan.plan import Plan
from lwspec.errors import SpecError
from lwspec.report.content import Content
from lwspec.report.paper.latex import escape, macro_name
from lwspec.report.refs import At, Pair, name_of, resolve_in_spec
from lwspec.report.tables.entries import Entry
from lwspec.report.tables.layout import Layout

KINDS = ("mean", "low", "high", "seeds", "n")


@dataclass(frozen=True)
class Macro:
    """One name that prose may use, and the entries that it speaks of."""

    name: str
    """Without its backslash; empty for a placeholder that the spec names itself."""
    placeholder: str
    kind: str
    """mean, low, high, seeds, n or claim."""
    entries: tuple[At, ...]
    claim: str = ""


def macros(
    plan: Plan, layouts: Sequence[Layout], pairs: Mapping[str, Sequence[Pair]]
) -> list[Macro]:
    """Every name. Raises SpecError where two things would share one."""
    made = [*_of_entries(layouts), *_of_claims(pairs), *_aliases(plan, layouts)]
    known: dict[str, Macro] = {}
    for macro in made:
        for name in filter(None, (macro.name, macro.placeholder)):
            if name in known:
                raise SpecError(
                    f"{name} would stand for {_speaks_of(known[name])} and for {_speaks_of(macro)}",
                    where=str(plan.loaded.source.path),
                    remedy="rename a table, a task, an experiment or a claim",
                )
            known[name] = macro
    return made


def _of_entries(layouts: Sequence[Layout]) -> Iterator[Macro]:
    for layout in layouts:
        for row, column in layout.slots:
            words = (layout.table.name, row, column)
            yield from _kinds(macro_name(*words), _snake(*words), (layout, (row, column)))


def _kinds(name: str, placeholder: str, entry: At) -> Iterator[Macro]:
    for kind in KINDS:
        suffix = "" if kind == "mean" else kind
        snake = f"{placeholder}_{kind.upper()}" if suffix else placeholder
        yield Macro(name and name + suffix.capitalize(), snake, kind, (entry,))


def _of_claims(pairs: Mapping[str, Sequence[Pair]]) -> Iterator[Macro]:
    for claim, held in pairs.items():
        entries = [side for pair in held for side in (pair.left, pair.right)]
        spoken = tuple(side for side in entries if not isinstance(side, float))
        yield Macro(macro_name("claim", claim), _snake("claim", claim), "claim", spoken, claim)


def _aliases(plan: Plan, layouts: Sequence[Layout]) -> Iterator[Macro]:
    paper = plan.loaded.spec.paper
    for name, ref in (paper.numbers if paper else {}).items():
        at = ("paper", "numbers", name)
        found = resolve_in_spec(ref, at, plan, layouts)
        if len(found) > 1:
            plan.loaded.fail(at, f"{ref!r} names {len(found)} entries; a number is one")
        yield from _kinds("", name, found[0])


def _speaks_of(macro: Macro) -> str:
    return f"the claim {macro.claim}" if macro.claim else name_of(macro.entries[0])


def _snake(*words: str) -> str:
    return "_".join(re.sub(r"[^A-Za-z0-9]+", "_", word).strip("_") for word in words).upper()


def values(found: Sequence[Macro], content: Content) -> list[tuple[Macro, str]]:
    """What each name stands for, as LaTeX."""
    claims = {judged.claim.name: judged.text for judged in content.claims}
    entries = {
        (data.layout.table.name, place): entry
        for data in content.tables
        for place, entry in data.entries.items()
    }
    made = []
    for macro in found:
        if macro.claim:
            value = escape(claims[macro.claim])
        else:
            layout, place = macro.entries[0]
            value = _value(macro.kind, entries[layout.table.name, place])
        made.append((macro, value))
    return made


def _value(kind: str, entry: Entry) -> str:
    if entry.estimate is None and kind != "seeds":
        return rf"\textit{{{entry.text}}}"
    if kind == "mean":
        return entry.text
    if kind == "seeds":
        return entry.seeds
    if kind == "n":
        return str(entry.n)
    if entry.interval is None:
        return r"\textit{no interval}"
    return entry.interval[0 if kind == "low" else 1]


def numbers_tex(found: Sequence[tuple[Macro, str]]) -> str:
    """The file that a paper inputs."""
    lines = ["% Written by lwspec from results.db; every macro is a recorded number or a claim."]
    lines += [rf"\newcommand{{\{m.name}}}{{{value}}}" for m, value in found if m.name]
    return "\n".join(lines) + "\n"
