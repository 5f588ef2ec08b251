"""What a paper shows that no record made: numbers typed into it, and pictures of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lwspec.report.paper.contract import Complaint
from lwspec.report.paper.template import Filled, Part, without_comments

_BEGIN = r"\begin{document}"
_NO_RESULT = re.compile(
    r"\\(?:VAR|BLOCK|COMMENT|scalebox|linespread)\{[^{}]*\}|\\renewcommand\{[^{}]*\}\{[^{}]*\}"
    r"|\\[A-Za-z]+\*?\[[^\]]*\]"
)
"""Where a number is a placeholder's, or a matter of layout."""
_DECIMAL = re.compile(
    r"(?<![\w.])(?<!\w-)\d+\.\d+"
    r"(?!\d|\.\d|\s*(?:pt|em|ex|cm|mm|in|bp)\b|\s*\\[a-z]*(?:width|height|skip|sep))"
)
"""A number with a decimal point that is no length and no part of a name, such as Llama-3.1."""


def by_hand(filled: Filled) -> list[Complaint]:
    """Every decimal number in the body of the paper's own files, and every picture beside them.

    Neither need be wrong: a model's size is typed, the drawing of an architecture is no result.
    """
    return [found for part in filled.parts for found in (*_typed(part), *_pictures(part, filled))]


def _typed(part: Part) -> Iterator[Complaint]:
    text = without_comments(part.source.read_text(encoding="utf-8"))
    start = max(0, text.find(_BEGIN))
    for number, line in enumerate(text[start:].split("\n"), text.count("\n", 0, start) + 1):
        for match in _DECIMAL.finditer(_NO_RESULT.sub("", line)):
            yield Complaint(f"{part.source}:{number}", f"{match[0]} is typed")


def _pictures(part: Part, filled: Filled) -> Iterator[Complaint]:
    for asked in part.asked:
        if asked.command == "includegraphics" and not filled.beside.keys().isdisjoint(asked.paths):
            yield Complaint(str(part.source), f"{asked.name} is a picture of its own")
