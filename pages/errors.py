"""The error catalogue as a page, from the examples that the tests run."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from pages.text import block, code, rows

TESTS = Path(__file__).parent.parent / "tests"


def errors() -> str:
    """A section for each group of examples, and what no example meets."""
    if str(TESTS) not in sys.path:
        sys.path.append(str(TESTS))
    from catalogue import FOLDER, Example, Group, groups

    def example(each: Example) -> str:
        files = [
            f"{code(name)}:\n\n{block(text)}"
            for name, text in each.files.items()
            if len(text) < 400
        ]
        changes = [
            block(
                f"- {old.strip()}\n+ {new.strip()}" if new.strip() else f"- {old.strip()}", "diff"
            )
            for old, new in each.change
            if len(new) < 400
        ]
        added = [block(each.add.strip(), "toml")] if each.add and len(each.add) < 900 else []
        printed = block(f"$ {each.command}\n{each.printed}", "console")
        shown = "\n\n".join([*changes, *added, *files, printed])
        return f"### {each.title}\n\n{shown}\n\nExit status {each.status}."

    def section(group: Group) -> str:
        return "\n\n".join(
            [f"## {group.title}", group.about, *(example(each) for each in group.examples)]
        )

    elsewhere = tomllib.loads((FOLDER / "elsewhere.toml").read_text(encoding="utf-8"))["class"]
    listed = [(code(each["name"]), each["when"], code(each["test"])) for each in elsewhere]
    lacking = (FOLDER / "lacking.txt").read_text(encoding="utf-8")
    base = block((FOLDER / "base.toml").read_text(encoding="utf-8"), "toml")
    return "\n\n".join(
        [
            f"The examples edit this spec, `spec.toml`:\n\n{base}",
            *(section(group) for group in groups()),
            "## Met by jobs alone",
            rows(("class", "when", "test"), listed),
            "## Messages without an example",
            "Their places in `lwspec/`, each `{}` a value:",
            block(lacking),
        ]
    )
