"""The table of incidents in docs/reliability.md against the tests that are named after them."""

from __future__ import annotations

import ast
import re

from conftest import ROOT

PAGE = (ROOT / "docs/reliability.md").read_text()
ROW = re.compile(
    r"\| (\d+) \| (.+) \| (impossible|detected) \| (.+) \| `(test_incidents_\w+\.py)::(\w+)` \|"
)


def named_tests() -> set[tuple[str, str]]:
    """File and name of every test of an incident."""
    return {
        (path.name, node.name)
        for path in (ROOT / "tests").glob("test_incidents_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_incident_")
    }


def test_every_incident_has_one_row_and_every_row_its_test() -> None:
    lines = [line for line in PAGE.splitlines() if re.match(r"\| \d", line)]
    rows = [ROW.fullmatch(line) for line in lines]
    assert all(rows), [line for line, row in zip(lines, rows, strict=True) if row is None]
    found = [row.groups() for row in rows if row is not None]
    assert [int(number) for number, *_ in found] == list(range(1, 41))
    assert {(file, test) for *_, file, test in found} == named_tests()
    for number, *_, test in found:
        assert test.startswith(f"test_incident_{int(number):02d}_"), test


def test_no_incident_is_tested_under_two_names() -> None:
    numbers = [name.split("_")[2] for _, name in named_tests()]
    assert sorted(numbers) == [f"{number:02d}" for number in range(1, 41)]
