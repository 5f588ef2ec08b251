"""The error catalogue is true, and says what it does not cover."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

import pytest
from catalogue import FOLDER, Example, finish, groups, meet
from conftest import ROOT
from raised import CLASSES, places

from lwspec import errors

EXAMPLES = [example for group in groups() for example in group.examples]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A folder whose plan has run, which examples begin with copies of."""
    folder = tmp_path_factory.mktemp("done")
    finish(folder, request.getfixturevalue("world"))
    return folder


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_prints_what_the_catalogue_says(
    example: Example, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    status, said = meet(example, tmp_path, lambda: request.getfixturevalue("done"))
    assert said == example.printed
    assert status == example.status


@cache
def printed() -> str:
    return "".join(example.printed for example in EXAMPLES)


def test_examples_have_names_of_their_own() -> None:
    names = [example.name for example in EXAMPLES]
    assert len(names) == len(set(names))


def test_what_the_catalogue_lacks_is_listed() -> None:
    lacking = [str(place) for place in places() if not place.said_in(printed())]
    listed = (FOLDER / "lacking.txt").read_text(encoding="utf-8").splitlines()
    assert lacking == listed, "python tests/catalogue.py writes the list anew"


def test_every_class_is_met_or_named_with_its_test() -> None:
    met = {place.name for place in places() if place.said_in(printed())}
    met |= {name for name in CLASSES if f"[{getattr(errors, name).failure_class}]" in printed()}
    elsewhere = tomllib.loads((FOLDER / "elsewhere.toml").read_text())["class"]
    assert met.isdisjoint(each["name"] for each in elsewhere)
    assert met | {each["name"] for each in elsewhere} >= CLASSES
    for each in elsewhere:
        file, name = each["test"].split("::")
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), each["test"]
