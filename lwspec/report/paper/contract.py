"""The paper held against the plan: what it reads that nothing fills, and what it never uses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined

from lwspec.engine.plan.plan import Plan
from lwspec.engine.spec.toml import Loc, Source
from lwspec.errors import nearest
from lwspec.report.claims import Judged, Verdict
from lwspec.report.content import Content
from lwspec.report.paper.latex import escape
from lwspec.report.paper.macros import Macro
from lwspec.report.paper.template import Filled, Part, fill, unknown_names, without_comments
from lwspec.report.tables.layout import Layout

NUMBERS = "numbers.tex"
_BY_LATEX = ("documentclass", "usepackage", "bibliographystyle")
"""Commands whose files a LaTeX installation has."""


@dataclass(frozen=True)
class Complaint:
    """Something in the paper that the plan does not bear out."""

    where: str
    """file:line."""
    what: str
    nearest: str | None = None

    def __str__(self) -> str:
        hint = f" (did you mean {self.nearest}?)" if self.nearest else ""
        return f"{self.where}: {self.what}{hint}"


def fill_known(
    template: Path, path: str, words: Mapping[str, Any], artefacts: Set[str]
) -> tuple[Filled, list[Complaint]]:
    """The template filled as far as it can be, and every name and file that nothing fills.

    What is unknown stands for nothing, so that what reads files is seen behind it.
    """
    unknown = unknown_names(template, words, artefacts)
    complaints = [
        Complaint(f"{source}:{line}", rf"nothing fills \VAR{{{name}}}", nearest(name, words))
        for source, line, name in unknown
    ]
    empty = {name: ChainableUndefined(name=name) for *_, name in unknown}
    filled = fill(template, path, {**words, **empty}, artefacts)
    return filled, [*complaints, *unfilled(filled, artefacts)]


def unfilled(filled: Filled, artefacts: Iterable[str]) -> list[Complaint]:
    """Every file that the paper reads, that does not lie beside it and that no artefact is."""
    there = {NUMBERS, *artefacts, *filled.beside, *(part.path for part in filled.parts)}
    return [
        Complaint(
            f"{part.source}:{_line(part, asked.name)}",
            f"no experiment fills \\{asked.command}{{{asked.name}}}",
            nearest(asked.paths[0], there),
        )
        for part in filled.parts
        for asked in part.asked
        if asked.command not in _BY_LATEX and not there.intersection(asked.paths)
    ]


def unused(
    plan: Plan, filled: Filled, layouts: Sequence[Layout], macros: Sequence[Macro]
) -> list[str]:
    """The experiments of which the paper shows nothing."""
    spec = plan.loaded.spec
    read = {path for part in filled.parts for asked in part.asked for path in asked.paths}
    text = "\n".join(part.text for part in filled.parts)
    sources = "\n".join(part.source.read_text(encoding="utf-8") for part in filled.parts)
    named = set(re.findall(r"\\([A-Za-z]+)", text)) | set(re.findall(r"[A-Z][A-Z0-9_]+", sources))
    used = {name for layout in layouts if layout.path in read for name in layout.table.experiments}
    for figure in spec.figure:
        if figure.files[0] in read:
            used |= set(figure.experiments)
    for macro in macros:
        if {macro.name, macro.placeholder} & named:
            used |= {layout.slots[place].group.experiment for layout, place in macro.entries}
    return [e.name for e in spec.experiment if e.name not in used]


@dataclass(frozen=True)
class Said:
    """A text that the spec gives the paper, as LaTeX: what it is, and its key."""

    what: str
    at: Loc
    text: str


def said_by_spec(content: Content) -> list[Said]:
    """The title, the captions and the claims as they were judged."""
    spec = content.plan.loaded.spec
    said = [Said("the title", ("paper", "title"), spec.paper.title)] if spec.paper else []
    for index, table in enumerate(spec.table):
        said.append(
            Said(f"the caption of table {table.name!r}", ("table", index, "caption"), table.caption)
        )
    for index, figure in enumerate(spec.figure):
        what = f"the caption of figure {figure.name!r}"
        said.append(Said(what, ("figure", index, "caption"), figure.caption))
    for index, judged in enumerate(content.claims):
        said.append(Said(f"the claim {judged.claim.name!r}", ("claim", index), judged.text))
    return [replace(one, text=escape(one.text.strip())) for one in said]


def unsaid(
    filled: Filled,
    artefacts: Mapping[str, str],
    claims: Sequence[Judged],
    never: Sequence[str],
    said: Sequence[Said],
    spec: Source,
) -> list[Complaint]:
    """Every use of a word that its claim does not bear out, or that the spec forbids.

    A word also stands for those that begin with it: `interlingua` for `interlingual`. What the
    spec gave the paper to say (`said`) is looked for there, not where it came out.
    """
    forbidden = {word: "the spec's [paper] forbids it" for word in never}
    for judged in claims:
        if judged.verdict is not Verdict.SUPPORTED:
            why = f"the claim {judged.claim.name!r}, on which it hangs, is {judged.verdict.value}"
            forbidden |= {word: why for word in judged.claim.words}
    texts: list[tuple[str, str, Path | None]]
    texts = [(part.path, part.text, part.source) for part in filled.parts]
    texts += [(path, text, None) for path, text in artefacts.items()]
    found = []
    for path, text, source in texts:
        lines = source.read_text(encoding="utf-8").splitlines() if source else []
        bare, filled_lines = without_comments(text), text.split("\n")
        for word in forbidden:
            phrase = r"\s+".join(map(re.escape, word.split()))
            for match in re.finditer(rf"\b{phrase}", bare, re.IGNORECASE):
                number = bare.count("\n", 0, match.start()) + 1
                line = filled_lines[number - 1]
                column = match.start() - (bare.rfind("\n", 0, match.start()) + 1)
                who, where = "the paper", f"{path}:{number}"
                if line in lines:
                    where = f"{source}:{lines.index(line) + 1}"
                elif one := _source_of(line, column, said):
                    who, where = one.what, spec.where(one.at)
                found.append(Complaint(where, f"{who} says {word!r}; {forbidden[word]}"))
    return list(dict.fromkeys(found))


def _source_of(line: str, column: int, said: Sequence[Said]) -> Said | None:
    """Which of the spec's texts brought what stands at a column of a line."""
    for one in said:
        start = line.find(one.text) if one.text else -1
        if 0 <= start <= column < start + len(one.text):
            return one
    return None


def _line(part: Part, name: str) -> int:
    """Where the template has a name; where its loop is, if a loop made it."""
    for number, line in enumerate(part.source.read_text(encoding="utf-8").splitlines(), 1):
        if re.search(rf"[{{,\s]{re.escape(name)}(?![\w/.])", line):
            return number
    return 1
