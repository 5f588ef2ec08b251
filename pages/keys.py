"""Every key of a spec as tables, from the JSON Schema that `lwspec schema` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lwspec.cli.new.templates import toml
from lwspec.engine.spec.schema import json_schema
from lwspec.kernels.arms import declarations
from pages.text import anchor, code, rows

Schema = Mapping[str, Any]
COUNTS = {"minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "to {}"}
COUNTS |= {"exclusiveMaximum": "below {}", "minItems": "at least {}"}


def spec_keys() -> str:
    """A section for each table that a spec may hold."""
    schema = json_schema(declarations())
    sections = [_section("The whole file", schema, schema)]
    sections += [_section(code(path), schema["$defs"][name], schema) for name, path in placed()]
    return "\n\n".join(sections)


def placed() -> list[tuple[str, str]]:
    """The schema's definitions with where a spec holds them, from the file's top downwards."""
    schema = json_schema(declarations())
    found: dict[str, str] = {}
    open_: list[tuple[Schema, str]] = [(schema, "")]
    while open_:
        table, path = open_.pop(0)
        for key, value in table.get("properties", {}).items():
            if key == "defaults" and not path:
                continue  # which holds an experiment's keys again
            for name, shape in _named(value):
                if name not in found:
                    found[name] = _path(path, key, shape, name)
                    open_.append((schema["$defs"][name], found[name]))
    return list(found.items())


def _path(path: str, key: str, shape: str, name: str) -> str:
    inner = f"{path.partition(']')[0].strip('[')}.{key}" if path else key
    if shape == "list":
        return f"[[{inner}]]"
    if shape == "names":
        kind = f' kind = "{name.lower()}"' if key == "tasks" else ""
        return f"[{inner}.NAME]{kind}"
    return f"[{inner}]" if not path else inner


def _named(value: Schema, shape: str = "table") -> Iterator[tuple[str, str]]:
    """The definitions that a key may hold, and whether as one table, a list or by name."""
    if "$ref" in value:
        yield value["$ref"].rpartition("/")[2], shape
    for part in (*value.get("anyOf", ()), *value.get("oneOf", ())):
        yield from _named(part, shape)
    if isinstance(value.get("items"), Mapping):
        yield from _named(value["items"], "list")
    if isinstance(value.get("additionalProperties"), Mapping):
        yield from _named(value["additionalProperties"], "names")


def _section(title: str, table: Schema, schema: Schema) -> str:
    about = "" if table is schema else table.get("description", "")
    return "\n\n".join(filter(None, [f"## {title}", about, key_table(table)]))


def key_table(table: Schema) -> str:
    """The keys of one table: what each takes, its default, and what it means."""
    arms = declarations()
    where = dict(placed())
    listed = [
        (code(key), _kind(value, where), _default(key, value, table), value.get("description", ""))
        for key, value in table.get("properties", {}).items()
        if not (key in arms and "arms" in table["properties"])  # each arm's own table
    ]
    return rows(("key", "takes", "default", "what it means"), listed)


def _default(key: str, value: Schema, table: Schema) -> str:
    if "default" not in value:
        return "must be given" if key in table.get("required", ()) else ""
    given = value["default"]
    return "" if given in (None, {}, [], "") or isinstance(given, Mapping) else code(toml(given))


def _kind(value: Schema, where: Mapping[str, str]) -> str:
    """What a key takes, in words."""
    if "$ref" in value:
        path = where[value["$ref"].rpartition("/")[2]]
        return f"[table](#{anchor(path)})"
    parts = [*value.get("anyOf", ()), *value.get("oneOf", ())]
    if parts:
        said = dict.fromkeys(_kind(part, where) for part in parts if part.get("type") != "null")
        return " or ".join(said)
    if "const" in value or "enum" in value:
        return ", ".join(code(json.dumps(each)) for each in value.get("enum", [value.get("const")]))
    if value.get("type") == "array":
        return f"list of {_kind(value.get('items', {}), where)}{_bounds(value)}"
    if value.get("type") == "object":
        inner = value.get("additionalProperties")
        return f"by name: {_kind(inner, where)}" if isinstance(inner, Mapping) else "table"
    words = {
        "string": "text",
        "integer": "whole number",
        "number": "number",
        "boolean": "true or false",
    }
    return words.get(value.get("type", ""), "any value") + _bounds(value)


def _bounds(value: Schema) -> str:
    said = [text.format(value[key]) for key, text in COUNTS.items() if key in value]
    return f" ({', '.join(said)})" if said else ""
