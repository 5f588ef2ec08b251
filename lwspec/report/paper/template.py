r"""The paper's template, filled: `\VAR{name}` and `\BLOCK{for ...}` in it and in what it inputs."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from typing import Any

import jinja2
from jinja2 import meta

from lwspec.errors import ReportError, nearest
from lwspec.report.paper.bounded import Bounded, render

_COMMAND = re.compile(
    r"\\(?P<command>input|include|includegraphics|lstinputlisting|bibliography|addbibresource"
    r"|documentclass|usepackage|bibliographystyle)\*?\s*(?:\[[^\]]*\])?\s*\{(?P<names>[^{}]+)\}"
    r"|\\(?P<bare>input)\s+(?P<name>[^\s{}\\]+)"
)
_COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%.*")
_LISTS = ("bibliography", "usepackage")
ENDINGS: Mapping[str, Sequence[str]] = {
    "input": ("", ".tex"),
    "include": (".tex", ""),
    "includegraphics": ("", ".pdf", ".png", ".jpg", ".jpeg"),
    "lstinputlisting": ("",),
    "bibliography": (".bib", ""),
    "addbibresource": ("",),
    "documentclass": (".cls",),
    "usepackage": (".sty",),
    "bibliographystyle": (".bst",),
}
"""The commands that read a file, and how its name may end."""


@dataclass(frozen=True)
class Asked:
    """A file that the paper's LaTeX reads."""

    command: str
    name: str
    line: int
    """Of the filled text."""

    @property
    def paths(self) -> list[str]:
        """The paths that LaTeX would look for."""
        return [posixpath.normpath(self.name) + ending for ending in ENDINGS[self.command]]


@dataclass(frozen=True)
class Part:
    """The template, or a file beside it that it inputs."""

    source: Path
    path: str
    """Where its filled text goes, below the paper's folder."""
    text: str

    @property
    def asked(self) -> list[Asked]:
        """Every file that it reads, comments left out."""
        bare = without_comments(self.text)
        return [
            Asked(
                match["command"] or match["bare"],
                name.strip(),
                bare.count("\n", 0, match.start()) + 1,
            )
            for match in _COMMAND.finditer(bare)
            for name in _names(match)
        ]


@dataclass(frozen=True)
class Filled:
    """A template filled, with the files beside it that it reads."""

    parts: tuple[Part, ...]
    beside: Mapping[str, Path]
    """Graphics, bibliographies and styles: path below the paper's folder to the file."""


def _names(match: re.Match[str]) -> list[str]:
    """The files of a command: several only where LaTeX takes a list."""
    if match["command"] in _LISTS:
        return str(match["names"]).split(",")
    return [match["names"] or match["name"]]


def without_comments(text: str) -> str:
    """What LaTeX reads of a text, line by line."""
    return "\n".join(_COMMENT.sub(r"\1", line) for line in text.split("\n"))


def fill(template: Path, path: str, words: Mapping[str, Any], artefacts: Set[str]) -> Filled:
    """Fill the template and what it inputs from beside it; `path` is where the first goes.

    What the report writes itself (`artefacts`) is never taken from beside the template, where an
    older copy may lie. Raises ReportError at the first thing that cannot be read or is not among
    `words`.
    """
    home, parts, beside = template.parent, [], {}
    queue = [(template, path)]
    while queue:
        source, goes_to = queue.pop(0)
        part = Part(source, goes_to, _render(source, words))
        parts.append(part)
        for asked in part.asked:
            found = [name for name in asked.paths if _inside(home, name)]
            if not found or not artefacts.isdisjoint(asked.paths):
                continue
            if asked.command not in ("input", "include"):
                beside[found[0]] = home / found[0]
            elif all(known.path != found[0] for known in parts):
                queue.append((home / found[0], found[0]))
    return Filled(tuple(parts), beside)


def unknown_names(
    template: Path, words: Mapping[str, Any], artefacts: Set[str]
) -> list[tuple[Path, int, str]]:
    """Every name that the template, or a file that it plainly inputs, uses and no word has."""
    found, queue, seen = [], [template], set()
    while queue:
        source = queue.pop(0)
        if source in seen:
            continue
        seen.add(source)
        text = _read(source)
        for name in sorted(_undeclared(source, text) - set(words) - set(_environment().globals)):
            found.append((source, _line_of(name, text), name))
        for asked in Part(source, "", text).asked:
            if asked.command in ("input", "include") and artefacts.isdisjoint(asked.paths):
                queue += [template.parent / n for n in asked.paths if _inside(template.parent, n)]
    return found


def _inside(home: Path, name: str) -> bool:
    """Whether it is a file of the template's folder, by a path that never leaves it."""
    if name.startswith(("/", "../")):
        return False
    try:
        return (home / name).is_file() and (home / name).resolve().is_relative_to(home.resolve())
    except OSError:  # no file can have a name so long
        return False


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ReportError(f"the template is not UTF-8: {error.reason}", where=str(path)) from None


def _environment() -> jinja2.Environment:
    return Bounded(
        block_start_string=r"\BLOCK{",
        block_end_string="}",
        variable_start_string=r"\VAR{",
        variable_end_string="}",
        comment_start_string=r"\COMMENT{",
        comment_end_string="}",
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        keep_trailing_newline=True,
    )


def _undeclared(source: Path, text: str) -> set[str]:
    try:
        return meta.find_undeclared_variables(_environment().parse(text))
    except jinja2.TemplateSyntaxError as error:
        raise ReportError(
            f"the template cannot be read: {error.message}", where=f"{source}:{error.lineno}"
        ) from None
    except RecursionError:
        raise ReportError("the template is nested too deeply", where=str(source)) from None
    except ValueError:  # a number of thousands of digits
        raise ReportError("the template holds a number too long", where=str(source)) from None


def _render(source: Path, words: Mapping[str, Any]) -> str:
    text = _read(source)
    for name in sorted(_undeclared(source, text) - set(words) - set(_environment().globals)):
        raise ReportError(
            f"the template names something unknown: {name}",
            where=f"{source}:{_line_of(name, text)}",
            nearest=nearest(name, words),
            remedy="lwspec plan lists every placeholder that nothing fills",
        )
    try:
        return render(_environment(), text, words)
    except jinja2.UndefinedError as error:
        raise ReportError(
            f"the template names something unknown: {error.message}", where=_where(source, error)
        ) from None
    except Exception as error:  # whatever the template's own expressions raise
        raise ReportError(
            f"the template cannot be filled: {error or type(error).__name__}",
            where=_where(source, error),
        ) from None


def _where(source: Path, error: Exception) -> str:
    """The line of the template that raised."""
    lines = [f.lineno for f in extract_tb(error.__traceback__) if f.filename == "<template>"]
    return f"{source}:{lines[-1]}" if lines else str(source)


def _line_of(name: str, text: str) -> int:
    """The first line that holds a name."""
    match = re.search(rf"(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])", text)
    return text.count("\n", 0, match.start()) + 1 if match else 1
