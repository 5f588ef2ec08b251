"""The schema that editors are given: it takes the specs that lwspec takes, and marks slips."""

from __future__ import annotations

import copy
import json
import subprocess
import tomllib
from typing import Any

import jsonschema
import pytest
from conftest import ROOT, SPEC, Project

from lwspec.engine.spec.schema import json_schema
from lwspec.kernels.arms import declarations

SCHEMA = json_schema(declarations())
SPECS = sorted((ROOT / "specs").glob("*.toml"))
CHECK = jsonschema.Draft7Validator(SCHEMA)


def complaints(spec: dict[str, Any]) -> list[str]:
    return [error.message for error in CHECK.iter_errors(spec)]


def test_it_is_a_schema_whose_keys_are_explained() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    resources = SCHEMA["$defs"]["Resources"]["properties"]
    assert "trained in one process" in resources["side_by_side"]["description"]
    bridge = SCHEMA["$defs"]["Experiment"]["properties"]["bridge"]["properties"]
    assert "Soft tokens" in bridge["latents"]["description"]


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_it_takes_every_spec(path: Any) -> None:
    assert complaints(tomllib.loads(path.read_text())) == []
    first = path.read_text().splitlines()[0]
    assert first == "#:schema lwspec.schema.json"


def test_the_file_beside_the_specs_is_of_this_code() -> None:
    written = json.loads((ROOT / "specs" / "lwspec.schema.json").read_text())
    assert written == SCHEMA, "make schema"


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("budgets",), {}, "'budgets' was unexpected"),
        (("experiment", 0, "arm"), ["bridge"], "'arm' was unexpected"),
        (("experiment", 0, "bridge", "latent"), 4, "'latent' was unexpected"),
        (("experiment", 0, "bridge", "latents"), 0, "less than or equal to the minimum of 0"),
        (("resources", "threads"), "two", "'two' is not of type 'integer'"),
        (("defaults", "name"), "all", "'name' was unexpected"),
        (("models", "llama", "dtype"), "float8", "'float8' is not one of"),
    ],
)
def test_it_marks_slips(place: tuple[Any, ...], value: Any, said: str) -> None:
    spec = copy.deepcopy(tomllib.loads(SPEC))
    assert complaints(spec) == []
    within: Any = spec
    for key in place[:-1]:
        within = within[key]
    within[place[-1]] = value
    found = complaints(spec)
    assert any(said in one for one in found), found


def test_an_arm_of_the_spec_s_own_is_in_it(project: Project) -> None:
    arm = (ROOT / "docs" / "arms.md").read_text().partition("```python\n")[2].partition("```")[0]
    (project.folder / "mine.py").write_text(arm)
    project.change("schema = 1\n", 'schema = 1\narm_files = ["mine.py"]\n')
    done: subprocess.CompletedProcess[str] = project.run("schema", "small.toml")
    found = json.loads(done.stdout)["$defs"]["Experiment"]["properties"]
    assert found["last_words"]["properties"]["words"]["type"] == "integer"
