"""The JSON Schema of a spec: what an editor completes and marks while a spec is typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lwspec.engine.arm import ArmDeclaration
from lwspec.engine.spec.spec import Experiment, Spec

INHERITED = ("name", "settings", "sweep")
"""Keys of an experiment that [defaults] cannot hold, or that nobody writes."""


def json_schema(arms: Mapping[str, ArmDeclaration]) -> dict[str, Any]:
    """The schema of every key that a spec may hold, with the tables of these arms."""
    schema = Spec.model_json_schema()
    experiment = schema["$defs"]["Experiment"]
    own = {name: _table(arm) for name, arm in sorted(arms.items())}
    keys = {key: value for key, value in experiment["properties"].items() if key != "settings"}
    experiment["properties"] = {**keys, **own}
    experiment["required"] = ["name"]  # what else it needs may stand in [defaults]
    defaults = {key: value for key, value in keys.items() if key not in INHERITED}
    schema["properties"]["defaults"] = {
        "description": "What experiments that do not say otherwise take over.",
        "type": "object",
        "properties": {**defaults, **own},
        "additionalProperties": False,
    }
    return {"$schema": "http://json-schema.org/draft-07/schema#", **_without_titles(schema)}


def _table(arm: ArmDeclaration) -> dict[str, Any]:
    """An arm's own table; a sweep may set what it must hold."""
    table = arm.settings.model_json_schema()
    assert "$defs" not in table, f"the settings of {arm.name} are nested"
    return {key: value for key, value in table.items() if key != "required"}


def _without_titles(value: Any) -> Any:
    """Without what pydantic makes of names, which editors would show in place of the text."""
    if isinstance(value, list):
        return [_without_titles(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {k: v for k, v in value.items() if not (k == "title" and isinstance(v, str))}
    return {key: _without_titles(each) for key, each in kept.items()}


assert set(INHERITED) <= set(Experiment.model_fields)
