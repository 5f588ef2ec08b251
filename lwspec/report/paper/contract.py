"""The paper held against the plan: what it reads that nothing fills, and what it never uses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lwspec.engine.plan import Plan
from lwspec.errors import nearest
from lwspec.report.claims import Judged, Verdict
from lwspec.report.paper.macros import Macro
from lwspec.report.paper.template import Filled, Part, without_comments
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


def unsaid(
    filled: Filled, artefacts: Mapping[str, str], claims: Sequence[Judged], never: Sequence[str]
) -> list[Complaint]:
    """Every use of a word that its claim does not bear out, or that the spec forbids.

    A word also stands for those that begin with it: `interlingua` for `interlingual`.
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
                known = line in lines
                where = f"{source}:{lines.index(line) + 1}" if known else f"{path}:{number}"
                found.append(Complaint(where, f"the paper says {word!r}; {forbidden[word]}"))
    return found


def _line(part: Part, name: str) -> int:
    """Where the template has a name; where its loop is, if a loop made it."""
    for number, line in enumerate(part.source.read_text(encoding="utf-8").splitlines(), 1):
        if re.search(rf"[{{,\s]{re.escape(name)}(?![\w/.])", line):
            return number
    return 1
