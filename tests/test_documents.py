"""The documentation names what there is, and its commands work."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import ENVIRONMENT, ROOT

from lwspec.cli.arguments import parser
from lwspec.engine.metrics import METRICS
from lwspec.engine.spec.controls import CONTROLS
from lwspec.engine.spec.schema import json_schema
from lwspec.kernels.arms import all_arms, declarations

sys.path.append(str(ROOT))  # where `pages` lies, which is no part of the package

from pages.hook import GENERATED, MARK, filled

DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"


@cache
def page(name: str) -> str:
    """A page of the reference as mkdocs renders it."""
    return filled((REFERENCE / f"{name}.md").read_text(encoding="utf-8"))


def section(text: str, heading: str) -> str:
    """What stands below a heading of the second level."""
    (found,) = (each for each in re.split(r"^## ", text, flags=re.M) if each.startswith(heading))
    return found


def test_every_mark_is_filled_and_every_generated_part_is_asked_for() -> None:
    asked = [mark for path in DOCS.rglob("*.md") for mark in MARK.findall(path.read_text())]
    assert sorted(asked) == sorted(GENERATED)


def test_every_command_and_argument_has_its_place() -> None:
    text = page("commands")
    (verbs,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert len(verbs.choices) > 10
    for name, verb in verbs.choices.items():
        own = section(text, f"lwspec {name}\n")
        for action in verb._actions:
            shown = action.option_strings or [(action.metavar or action.dest).upper()]
            assert action.dest == "help" or all(f"`{each}" in own or f", {each}" in own
                                                for each in shown), (name, shown)  # fmt: skip


def keys(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every key of every table that a spec may hold, with what it means."""
    arms = declarations()
    for table in (schema, *schema["$defs"].values()):
        for key, value in table.get("properties", {}).items():
            if key not in arms:
                yield key, " ".join(value.get("description", "").split())


def test_every_key_of_a_spec_has_its_row() -> None:
    rows = [line.split(" | ") for line in page("spec").splitlines() if line.startswith("| `")]
    listed = [(row[0].strip("| `"), row[-1].removesuffix(" |")) for row in rows]
    wanted = [(key, said.replace("|", "\\|")) for key, said in keys(json_schema(declarations()))]
    assert len(wanted) > 100
    assert sorted(listed) == sorted(wanted)


@pytest.mark.parametrize("name", sorted(all_arms()))
def test_every_arm_has_its_section(name: str) -> None:
    own = section(page("arms"), f"{name}\n")
    for key in declarations()[name].settings.model_fields:
        assert f"| `{key}` |" in own
    assert len(own.split("\n\n")[1]) > 20, "its file has no docstring"


@pytest.mark.parametrize(("name", "known"), [("controls", CONTROLS), ("metrics", METRICS)])
def test_every_control_and_metric_has_its_row(name: str, known: Mapping[str, Any]) -> None:
    rows = re.findall(r"^\| `(\w+)` \|", page(name), re.M)
    assert rows == list(known)


def test_the_site_builds_without_a_warning_and_asks_no_server(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="pip install 'lwspec[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**ENVIRONMENT, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loads = re.compile(r"""<(?:script|link|img)[^>]*(?:src|href)=["']?(?:https?:)?//""")
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 20
    for path in pages:
        assert loads.search(path.read_text(encoding="utf-8")) is None, path.name
    for picture in tmp_path.rglob("images/*.svg"):
        assert "url(" not in picture.read_text(encoding="utf-8").replace("url(#", "")


def typed(text: str) -> list[str]:
    """The blocks of a page that a reader types, in their order."""
    return re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)


TUTORIAL = typed((DOCS / "tutorial.md").read_text(encoding="utf-8"))


def test_every_command_of_the_tutorial_is_one() -> None:
    lines = [line for block in TUTORIAL for line in block.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("lwspec ")]
    assert len(commands) > 10
    for arguments in commands:
        parser().parse_args(arguments)


@pytest.mark.tutorial
def test_what_the_tutorial_says_works_in_its_order(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "lwspec"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m lwspec "$@"\n')
    program.chmod(0o755)
    path = os.pathsep.join([str(program.parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euxc", "\n".join(TUTORIAL)],
        cwd=tmp_path, env={**ENVIRONMENT, "PATH": path}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout
    study = tmp_path / "study"
    assert "4 of 4" in (study / "paper/results.md").read_text()
    assert (study / "report.html").stat().st_size > 10_000
    assert "mood" in done.stdout.split("+ lwspec plan mood.toml")[1]
