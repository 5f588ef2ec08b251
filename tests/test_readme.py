"""The README names what there is."""

from __future__ import annotations

import re

from conftest import ROOT

from lwspec.cli import VERBS
from lwspec.kernels.arms import declarations

README = (ROOT / "README.md").read_text()


def test_every_arm_has_its_row() -> None:
    rows = "\n".join(line.split("|")[1] for line in README.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", rows)) == set(declarations())


def test_every_command_is_shown() -> None:
    for verb in VERBS:
        assert f"lwspec {verb}" in README, verb
