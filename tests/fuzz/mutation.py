"""From the fuzzer's bytes to text: real texts with tokens replaced, repeated, moved and cut."""

from __future__ import annotations

import re
from collections.abc import Sequence

import atheris

_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|[\w.+-]+|\n|[^\S\n]+|.', re.DOTALL)

VALUES = (
    "0", "-1", "1", "2", "0.5", "1e400", "1e308", "-1e308", "5e-324", "nan", "inf", "-inf", "NaN",
    "Infinity", str(2**31), str(2**63), str(-(2**63) - 1), "1" + "0" * 30, "9" * 5000, "999999999",
    "true", "false", "null", "[]", "{}", "[[]]", "[1, 2]", '["a", "a"]', '{ a = 1 }', '{"a": 1}',
    "1979-05-27T07:32:00Z", "07:32:00", '""', '" "', '"a"', '"../../x"', '"/etc/x"', '"a/b"',
    '"."', '"-x"', '"*"', '"[a-"', '"{context}"', '"{label}"', '"{text}"', '"(a+)+$"', '"(a|a)*b"',
    '"(a{9999999999})"', '"((((((a))))))"', '"\\u0000"', '"\\ud800"', '"\\u202e"', '"\\n"',
    '"' + "x" * 5000 + '"', '"é"', '"main"', '"bridge"', '"topic"', '"train"', '"test"',
    '"finished"', '"metric"', '"result"', '["main", "strict"]', '{ max = 999999999999 }',
)  # fmt: skip
"""Values that readers of numbers, strings, names, paths and patterns trip over."""

SIGNS = (
    "\x00", "\ufeff", "\r\n", "\r", "\ud800", "\u202e", "\u2028", "[", "]", "{", "}", "(", ")",
    "=", ",", ".", "'", '"', '"""', "\'\'\'", "\\", "#", "%", "$", "|", ":", "/", "..", "*", "-",
    "--", "_", "\n", "[[", "]]", "a.b", "a" * 5000, "**", "~", "loop", "range", "title.x", "|safe",
    r"\VAR{", r"\BLOCK{", r"\COMMENT{", r"\VAR{title}", r"\input{x}", r"\input{paper}",
    r"\BLOCK{for a in range(99999999)}", r"\BLOCK{endfor}", r"\BLOCK{set a = title}",
    r"\VAR{title * 999999999}", r"\VAR{9 ** 99999999}", r"\VAR{range(99999999) | list}",
    r"\VAR{title.__class__}", r"\VAR{title | center(999999999)}", r"\BLOCK{if title}",
    r"\BLOCK{endif}", r"\BLOCK{for a in runs}", r"\VAR{show(['main'])}", r"\BLOCK{macro a()}",
    r"\VAR{a()}", r"\BLOCK{endmacro}",
)  # fmt: skip
"""What stands between values, in any of the languages that are read."""

_VALUE = re.compile(r'".*"|[\w.+-]+', re.DOTALL)
_TIMES = (2, 30, 300, 5000)
_LONGEST = 20_000


def tokens(text: str) -> list[str]:
    """A text in pieces that mean something: strings, words, spaces, line ends, other signs."""
    return _TOKEN.findall(text)


class Choices:
    """What the fuzzer's bytes decide of one case; `made` is what came of it, for a report."""

    def __init__(self, data: bytes) -> None:
        self._source = atheris.FuzzedDataProvider(data)
        self.made: list[object] = []

    def number(self, most: int) -> int:
        """From 0 to `most`."""
        return int(self._source.ConsumeIntInRange(0, most))

    def one_of(self, values: Sequence[str]) -> str:
        return values[self.number(len(values) - 1)]

    def note(self, what: object) -> None:
        """Keep for the report of a failure."""
        self.made.append(what)

    def text(self, seeds: Sequence[Sequence[str]]) -> str:
        """One of some texts, given in tokens, with a few of its tokens changed."""
        mine = list(seeds[self.number(len(seeds) - 1)])
        for _ in range(1 + self.number(2)):
            self._change(mine, seeds)
        made = "".join(mine)
        self.note(made)
        return made

    def _change(self, mine: list[str], seeds: Sequence[Sequence[str]]) -> None:
        if not mine:
            return
        what, at = self.number(15), self.number(len(mine) - 1)
        if what <= 7:  # most often: a value for a value leaves the rest in order
            at = next((n for n in range(at, len(mine)) if _VALUE.fullmatch(mine[n])), at)
            mine[at] = self.one_of(VALUES)
        elif what == 8:
            mine[at] = self.one_of(seeds[self.number(len(seeds) - 1)])
        elif what == 9:
            del mine[at]
        elif what == 10:
            mine.insert(at, self.one_of(SIGNS))
        elif what == 11:
            times = _TIMES[self.number(len(_TIMES) - 1)]
            mine[at] = (mine[at] * times)[:_LONGEST]
        elif what == 12:  # a line goes
            first, last = _line(mine, at)
            del mine[first:last]
        elif what == 13:  # a line comes twice, there or elsewhere
            first, last = _line(mine, at)
            place = self.number(len(mine))
            mine[place:place] = mine[first:last]
        elif what == 14:
            del mine[at:]
        else:
            mine[at] = self._source.ConsumeUnicode(1 + self.number(8))


def _line(mine: Sequence[str], at: int) -> tuple[int, int]:
    """Where the line of a token begins and ends."""
    before = [n for n in range(at) if mine[n] == "\n"]
    after = next((n for n in range(at, len(mine)) if mine[n] == "\n"), len(mine) - 1)
    return (before[-1] + 1 if before else 0), after + 1
