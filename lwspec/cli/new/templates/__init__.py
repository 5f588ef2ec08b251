"""Templates of new specs, and links to lwspec's own specs, whose tasks and paper they take over."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lwspec.cli.terminal import printable


def render(template: str, **values: Any) -> str:
    """A template filled in."""
    environment = Environment(
        loader=PackageLoader("lwspec.cli.new"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"toml": toml, "key": key, "comment": comment}
    return environment.get_template(template).render(values)


def toml(value: Any) -> str:
    """A value as TOML in one line."""
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{key(name)} = {toml(inner)}" for name, inner in value.items())
        return f"{{ {pairs} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, str):  # TOML takes JSON's escapes, and wants one more
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)


def comment(text: object) -> str:
    """A text that ends with its line, whatever a file's header or name holds."""
    return printable(" ".join(str(text).split()))


def key(name: str) -> str:
    """A key, in quotes where TOML wants them."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml(name)
