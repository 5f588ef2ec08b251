"""The kinds of value that a spec's keys take, with what is asked of each."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

CONFIG = ConfigDict(
    frozen=True,
    extra="forbid",
    strict=True,
    populate_by_name=True,
    allow_inf_nan=False,
    use_attribute_docstrings=True,  # which `lwspec schema` hands to editors
)


class Frozen(BaseModel):
    """A part of the spec: immutable, strict, and closed to unknown keys."""

    model_config = CONFIG


_REORDERS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""What makes a terminal or an editor show text in another order than it is read in."""
_NAME_BYTES = 200
"""File systems take 255, of which a file's ending and a scratch copy's take some."""


def controls(text: str) -> bool:
    """Whether a text holds what steers a terminal instead of being shown by it."""
    return any(c in _REORDERS or unicodedata.category(c) == "Cc" for c in text)


def _one_line(text: str) -> str:
    if controls(text):
        raise ValueError("holds a line break or another control character")
    return text


def _safe_name(name: str) -> str:
    if "/" in name or controls(name):
        raise ValueError("a name holds no '/' and no control character: it names files")
    if not name or len(name) > 64 or name != name.strip():
        raise ValueError("a name has 1 to 64 characters and no blanks around it")
    if name[0] in ".-=+@":
        raise ValueError("a name starts with none of . - = + @: it stands in tables and commands")
    if len(name.encode("utf-8", "replace")) > _NAME_BYTES:
        raise ValueError(f"a name has at most {_NAME_BYTES} bytes: it names files")
    return name


def _safe_revision(revision: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w./-]{0,199}", revision, re.ASCII) or ".." in revision:
        raise ValueError("a revision is a branch, a tag or a commit's hash")
    return revision


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values, if none is given twice. Raises ValueError."""
    seen = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{value!r} is given twice")
        seen.add(value)
    return values


def _holds_context(prompt: str) -> str:
    if "{context}" not in prompt:
        raise ValueError("holds no {context}: the model would not see the text")
    return prompt


PLACEHOLDER = re.compile(r"\{(\w+)\}")
"""A column's name in a template."""


def placeholders(template: str) -> list[str]:
    """The columns that a template names."""
    return PLACEHOLDER.findall(template)


def _holds_column(template: str) -> str:
    if not placeholders(template):
        raise ValueError("holds no {column}: every row would read the same")
    return template


NOT_IN_LATEX = re.compile(r'[%#{}\\~^$"]')
"""What LaTeX does not take in the name of a file that it reads."""


def file_stem(name: str, unsafe: re.Pattern[str] = NOT_IN_LATEX) -> str:
    """A name as that of a file, each character that is unsafe there replaced by a hyphen."""
    return unsafe.sub("-", name)


def _below_the_paper(ending: str) -> AfterValidator:
    """A relative path with an ending."""

    def check(path: str) -> str:
        outside = path.startswith(("/", "../")) or path != posixpath.normpath(path)
        if outside or not path.endswith(ending):
            raise ValueError(f"a path below the paper's folder that ends in {ending}")
        _one_line(path)
        if NOT_IN_LATEX.search(path):
            raise ValueError('LaTeX takes none of % # { } \\ ~ ^ $ " in the name of a file')
        return path

    return AfterValidator(check)


def _holds_no_context(query: str) -> str:
    if "{context}" in query:
        raise ValueError("holds {context}: the receiver would see what it must not")
    return query


def _holds_label(answer: str) -> str:
    if "{label}" not in answer:
        raise ValueError("holds no {label}")
    return answer


def _holds_target(answer: str) -> str:
    if "{target}" not in answer:
        raise ValueError("holds no {target}")
    return answer


Prompt = Annotated[str, AfterValidator(_holds_context)]
Template = Annotated[str, AfterValidator(_holds_column)]
TablePath = Annotated[str, _below_the_paper(".tex")]
FigurePath = Annotated[str, _below_the_paper(".pdf")]
Query = Annotated[str, AfterValidator(_holds_no_context)]
LabelAnswer = Annotated[str, AfterValidator(_holds_label)]
TargetAnswer = Annotated[str, AfterValidator(_holds_target)]
Name = Annotated[str, AfterValidator(_safe_name)]
Line = Annotated[str, Field(min_length=1), AfterValidator(_one_line)]
Revision = Annotated[str, AfterValidator(_safe_revision)]
Names = Annotated[tuple[Name, ...], Field(strict=False, min_length=1), AfterValidator(distinct)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seeds = Annotated[tuple[Seed, ...], Field(strict=False, min_length=1), AfterValidator(distinct)]
Positive = Annotated[int, Field(gt=0)]
Rows = Annotated[int, Field(gt=0, le=10**7)]
"""Of a data set: a plan names each thousand of them."""
Epochs = Annotated[int, Field(gt=0, le=10_000)]
"""A plan names each of them."""
