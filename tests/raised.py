"""Every place in lwspec that says what a user did wrong, found in its source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lwspec import errors

PACKAGE = Path(errors.__file__).parent
CLASSES = {
    name
    for name, found in vars(errors).items()
    if isinstance(found, type) and issubclass(found, errors.LwspecError)
} - {"LwspecError", "SpecErrors"}
CHOSEN = "kind"
"""What the class is called where it is chosen among several."""
VALIDATORS = re.compile(
    r"engine/(fields|spec/spec|spec/task|spec/artefacts|spec/cluster)\.py|kernels/arms/"
)
"""Where a ValueError is pydantic's way to say what is wrong with a value."""
ANYTHING = "{}"


@dataclass(frozen=True, order=True)
class Place:
    """One call that makes an error."""

    file: str
    what: str
    """The message, each value in it as {}."""
    name: str
    """The class of the error."""

    def said_in(self, text: str) -> bool:
        """Whether a text holds this message; what is a value alone cannot be told."""
        parts = [re.escape(part) for part in self.what.split("\n")[0].split(ANYTHING)]
        if len(re.sub(r"\W", "", self.what.replace(ANYTHING, ""))) < 11:
            return False
        return re.search(".*".join(parts), text) is not None

    def __str__(self) -> str:
        return f"{self.file}: {self.what!r}"


def places() -> list[Place]:
    """All places, each once."""
    found = {place for path in PACKAGE.rglob("*.py") for place in _of(path)}
    return sorted(found)


def _of(path: Path) -> Iterator[Place]:
    file = path.relative_to(PACKAGE).as_posix()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        function, arguments = node.func, node.args
        if isinstance(function, ast.Attribute) and function.attr == "fail":
            yield Place(file, _template(arguments[1]), "SpecError")
        elif isinstance(function, ast.Name) and function.id in {*CLASSES, CHOSEN} and arguments:
            yield Place(file, _template(arguments[0]), function.id)
        elif (
            isinstance(function, ast.Name)
            and function.id == "ValueError"
            and VALIDATORS.search(file)
        ):
            yield Place(file, _template(arguments[0]), "SpecError")


def _template(node: ast.expr) -> str:
    """A message's text, with {} for what is known only when it is said."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_template(value) for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _template(node.left) + _template(node.right)
    return ANYTHING
