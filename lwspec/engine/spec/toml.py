"""TOML text with positions: where in the file a key stands, for errors.

The standard library parses; tree-sitter, loaded only once something is wrong, finds the place.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lwspec.errors import SpecError

if TYPE_CHECKING:
    from tree_sitter import Node

Loc = tuple[str | int, ...]
"""Where a value stands: the keys and positions that lead to it."""

DEEPEST = 32
"""How deeply tables and lists may be nested: far more than any key of a spec needs."""


def parse(text: str, file: str) -> dict[str, Any]:
    """Parse TOML; a syntax error becomes a SpecError with file, line and column."""
    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"^(.*) \(at line (\d+), column (\d+)\)$", str(error))
        what, where = (found[1], f"{file}:{found[2]}:{found[3]}") if found else (str(error), file)
        raise SpecError(f"not TOML: {what}", where=where) from None
    except RecursionError:
        raise SpecError("not TOML that can be read: nested too deeply", where=file) from None
    except ValueError:  # Python's own types hold neither the year 0 nor a number of 5,000 digits
        raise SpecError("not TOML: a number or a date out of its range", where=file) from None
    unfit = _unfit(parsed, DEEPEST)
    if unfit is not None:
        raise SpecError(unfit, where=file)
    return parsed


def _unfit(value: Any, levels: int) -> str | None:
    """What of a value is more than the spec's readers take: its depth, or a number's size."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return f"not TOML: {str(value)[:20]}... is no number of 64 bits"
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if inner and not levels:
        return f"tables or lists are nested more than {DEEPEST} deep"
    return next((unfit for each in inner if (unfit := _unfit(each, levels - 1))), None)


def position(text: str, file: str, path: Sequence[str | int]) -> str:
    """`file:line:column` of the key at `path`, or of its nearest parent that is written down."""
    places = _places(text)
    wanted = tuple(path)
    while wanted and wanted not in places:
        wanted = wanted[:-1]
    node = places.get(wanted)
    line, column = (node.start_point.row + 1, node.start_point.column + 1) if node else (1, 1)
    return f"{file}:{line}:{column}"


@lru_cache(maxsize=1)
def _places(text: str) -> dict[Loc, Node]:
    """Every key, table and list item that is written down, with its node in the syntax tree."""
    import tree_sitter_toml
    from tree_sitter import Language, Parser

    root = Parser(Language(tree_sitter_toml.language())).parse(text.encode()).root_node
    return dict(_document(root))


@lru_cache(maxsize=1)
def _parsed(text: str) -> dict[str, Any]:
    return tomllib.loads(text)


@dataclass(frozen=True)
class Source:
    """A spec's file and text: what errors point into, and what paths are relative to."""

    path: Path
    text: str

    def where(self, loc: Sequence[str | int]) -> str:
        """`file:line:column` of a key; a key of an experiment may stand in [defaults]."""
        place = position(self.text, str(self.path), loc)
        if len(loc) > 2 and loc[0] == "experiment":
            own = position(self.text, str(self.path), loc[:2])
            shared = position(self.text, str(self.path), ("defaults", *loc[2:]))
            none = position(self.text, str(self.path), ("defaults",))
            if place == own and shared != none:
                return shared
        return place

    def called(self, loc: Sequence[str | int]) -> str:
        """A table or list as people call it: an experiment by its name, not by its number."""
        if len(loc) > 1 and isinstance(loc[1], int):
            items = _parsed(self.text).get(str(loc[0]))
            item = items[loc[1]] if isinstance(items, list) and loc[1] < len(items) else None
            name = item.get("name") if isinstance(item, dict) else None
            loc = (f"{loc[0]} {name!r}" if name else f"{loc[0]} {loc[1] + 1}", *loc[2:])
        return ".".join(str(part) for part in loc if isinstance(part, str))


def _document(root: Node) -> Iterator[tuple[Loc, Node]]:
    counts: dict[Loc, int] = {}
    for child in root.named_children:
        if child.type == "pair":
            yield from _pair(child, ())
        elif child.type in ("table", "table_array_element"):
            path: Loc = ()
            for part in _key(child.named_children[0]):
                path += (part,)
                if path in counts:
                    path += (counts[path] - 1,)
            if child.type == "table_array_element":
                if path and isinstance(path[-1], int):
                    path = path[:-1]
                counts[path] = counts.get(path, 0) + 1
                path += (counts[path] - 1,)
            yield path, child.named_children[0]
            for pair in child.named_children[1:]:
                if pair.type == "pair":
                    yield from _pair(pair, path)


def _pair(pair: Node, parent: Loc) -> Iterator[tuple[Loc, Node]]:
    key, value = pair.named_children[0], pair.named_children[1]
    path = parent
    for part in _key(key):
        path += (part,)
        yield path, key
    yield from _value(value, path)


def _value(value: Node, path: Loc) -> Iterator[tuple[Loc, Node]]:
    children = [child for child in value.named_children if child.type != "comment"]
    if value.type == "inline_table":
        for child in children:
            yield from _pair(child, path)
    elif value.type == "array":
        for index, child in enumerate(children):
            yield (*path, index), child
            yield from _value(child, (*path, index))


def _key(node: Node) -> tuple[str, ...]:
    if node.type == "dotted_key":
        return tuple(part for child in node.named_children for part in _key(child))
    text = (node.text or b"").decode()
    if node.type == "quoted_key":
        return (next(iter(tomllib.loads(f"{text} = 0"))),)
    return (text,)
