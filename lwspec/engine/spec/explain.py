"""Pydantic's findings about a spec in the user's words, each with its place in the file."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from lwspec.engine.spec.spec import Spec
from lwspec.engine.spec.toml import Loc, Source
from lwspec.errors import SpecError, nearest

PLAINLY = {
    "tuple_type": "a list in brackets is wanted",
    "too_short": "at least {min_length} are wanted, {actual_length} given",
}
"""Pydantic's sentences that speak of Python, in the user's words."""


TAGS = ("AtMost", "constrained-int")
"""Pydantic's words for alternatives of a union, which no file holds."""


def explain(
    details: Sequence[ErrorDetails],
    raw: Any,
    source: Source,
    at: Loc = (),
    model: type[BaseModel] = Spec,
    also: Iterable[str] = (),
) -> list[SpecError]:
    """Pydantic's findings in the user's words, one for each key."""
    found: dict[Loc, SpecError] = {}
    locs = [_written_loc(detail["loc"], raw) for detail in details]
    around = {loc[:end] for loc in locs for end in range(len(loc))}
    for detail, loc in zip(details, locs, strict=True):
        if detail["type"] == "int_type" and isinstance(detail["input"], dict) and loc in around:
            continue  # what is wrong inside the table says more
        if detail["type"] == "too_short" and loc in around:
            continue  # pydantic counts only the valid items: what is wrong with the others is said
        shown = (*at, *(part for part in loc if part != "settings"))
        key, table = (shown[-1] if shown else ""), source.called(shown[:-1])
        key = source.called(shown) if isinstance(key, int) else key
        near = None
        if detail["type"] == "extra_forbidden":
            near = nearest(str(key), [*_valid_keys(model, detail["loc"][:-1]), *also])
            what = f"unknown key {key!r}" + (f" in {table}" if table else "")
        elif detail["type"] == "missing":
            what = f"{table or 'the spec'} lacks the key {key!r}"
        else:
            plain = PLAINLY.get(detail["type"])
            said = plain.format(**detail.get("ctx", {})) if plain else detail["msg"]
            what = f"{key}: {said.removeprefix('Value error, ')}"
            if detail["type"] != "value_error" and isinstance(detail["input"], str | int | float):
                what += f", got {detail['input']!r}"
            if detail["type"] == "literal_error" and isinstance(detail["input"], str):
                expected = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
                near = nearest(detail["input"], expected)
        if loc in found:
            what = f"{found[loc].what}, or: {detail['msg']}"
        found[loc] = SpecError(what, where=source.where(shown), nearest=near)
    return list({error.where: error for error in found.values()}.values())


def _written_loc(loc: Loc, raw: Any) -> Loc:
    """The part of pydantic's location that names keys of the file, not alternatives of a union."""
    written: Loc = ()
    for part in loc:
        written += (part,)
        if isinstance(raw, list) and isinstance(part, int):
            raw = raw[part]
        elif isinstance(raw, dict):
            tag = str(part) in TAGS or part == raw.get("kind")
            if part not in raw and tag:
                written = written[:-1]  # pydantic's word for the alternative that it took
                continue
            if part not in raw:
                return written
            raw = raw[part]
        else:
            return written[:-1]
    return written


def _valid_keys(model: type[BaseModel], loc: Loc) -> list[str]:
    """The keys that the table at `loc` may have."""
    inner: list[type[BaseModel]] = []
    for part in loc:
        field = model.model_fields.get(str(part))
        inner = _models_in(field.annotation) if field else inner
        tagged = [each for each in inner if each.__name__.lower() == part]
        if field or tagged:
            model = (tagged or inner or [model])[0]
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The spec's models that a field may hold."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for part in typing.get_args(annotation) for model in _models_in(part)]
