"""The error catalogue as a page, from the examples that the tests run."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pages.text import block, code, rows

TESTS = Path(__file__).parent.parent / "tests"
sys.path.append(str(TESTS))

from catalogue import FOLDER, groups  # noqa: E402

if TYPE_CHECKING:
    from catalogue import Example, Group

SHORT = 900
"""Characters of what is shown of a file or an edit."""


def errors() -> str:
    """A section for each group of examples, and what no example meets."""
    elsewhere = tomllib.loads((FOLDER / "elsewhere.toml").read_text(encoding="utf-8"))["class"]
    listed = [(code(each["name"]), each["when"], code(each["test"])) for each in elsewhere]
    base = block((FOLDER / "base.toml").read_text(encoding="utf-8"), "toml")
    parts = [
        f"The examples edit this spec, `spec.toml`:\n\n{base}",
        *map(_section, groups()),
        "## Met by jobs alone",
        rows(("class", "when", "test"), listed),
        "## Messages without an example",
        "Their places in `lwspec/`, each `{}` a value:",
        block((FOLDER / "lacking.txt").read_text(encoding="utf-8")),
    ]
    return "\n\n".join(parts)


def _section(group: Group) -> str:
    return "\n\n".join([f"## {group.title}", group.about, *map(_example, group.examples)])


def _example(example: Example) -> str:
    printed = block(f"$ {example.command}\n{example.printed}", "console")
    parts = [f"### {example.title}", *_circumstances(example), printed]
    return "\n\n".join([*parts, f"Exit status {example.status}."])


def _circumstances(example: Example) -> Iterator[str]:
    """What was done to the folder before the command."""
    if example.finished:
        yield "In a folder where a plan of a tiny pair has run:"
    for old, new in example.change:
        lines = [f"- {line}" for line in old.strip().splitlines()]
        lines += [f"+ {line}" for line in new.strip().splitlines()]
        if len(new) < SHORT:
            yield block("\n".join(lines), "diff")
    if 0 < len(example.add) < SHORT:
        yield block(example.add.strip(), "toml")
    for name, text in example.files.items():
        if text and len(text) < SHORT:
            yield f"{code(name)}:\n\n{block(text)}"
    for path, text in example.damage.items():
        yield f"{code(path)} is overwritten with {code(text)}."
    for path in example.delete:
        yield f"{code(path)} is deleted."
