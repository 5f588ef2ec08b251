"""The README names what there is."""

from __future__ import annotations

import re

from conftest import ROOT

from lwspec.cli.arguments import VERBS
from lwspec.kernels.arms import declarations

README = (ROOT / "README.md").read_text()


def test_every_arm_has_its_row() -> None:
    rows = "\n".join(line.split("|")[1] for line in README.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", rows)) == set(declarations())


def test_every_command_is_shown() -> None:
    for verb in VERBS:
        assert f"lwspec {verb}" in README, verb


def test_every_test_that_the_page_on_slurm_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/slurm.md").read_text()))
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    assert len(named) > 25
    assert named == {name for name in named if f"def {name}(" in sources}


def test_every_page_that_is_linked_to_exists() -> None:
    linked = re.findall(r"\]\(([^):#]+)\)", README)
    assert len(linked) > 8
    assert [path for path in linked if not (ROOT / path).is_file()] == []
