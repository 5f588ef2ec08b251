"""The page as one HTML file that needs nothing else and may run nothing but its own script."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lwspec import __version__
from lwspec.errors import UsageError
from lwspec.report.content import Content
from lwspec.report.page.runs import HASH_DIGITS, packed, rounded
from lwspec.report.page.table import NUMBERS
from lwspec.report.page.view import View, make_view
from lwspec.report.tables.plain import TEST_COLUMNS

FOLDER = Path(__file__).parent
FALLBACK = 400
"""Runs that are also written out for readers without JavaScript; more would double the file."""
LISTED = 200
"""Gaps that are listed of each kind."""


def check_path(path: Path) -> None:
    """Raise UsageError where no file can be written there."""
    folder = path.parent
    if path.is_dir():
        raise UsageError(
            "--html names a folder", where=str(path), remedy=f"--html {path / 'report.html'}"
        )
    if not folder.is_dir():
        raise UsageError(
            "--html names a file in a folder that does not exist",
            where=str(path),
            remedy=f"mkdir -p {folder}, then the same command",
        )


def write_page(content: Content, path: Path) -> None:
    """Write the page. Raises UsageError where its folder does not exist."""
    check_path(path)
    path.write_text(page_html(make_view(content), content), encoding="utf-8", newline="\n")


def page_html(view: View, content: Content) -> str:
    """The page's text: the same for the same records."""
    style, script = (_source(name) for name in ("page.css", "page.js"))
    template = _environment().get_template("page.html")
    return template.render(
        view=view,
        labels={job.id: f"{job.kind} {job.label}" for job in content.plan.expansion.jobs.values()},
        fallback=view.runs[:FALLBACK],
        data=_json(packed(view.runs)),
        rounded=rounded,
        hash_digits=HASH_DIGITS,
        listed=LISTED,
        test_columns=TEST_COLUMNS,
        numbers=NUMBERS,
        style=Markup(style),
        style_hash=_hash(style),
        script=Markup(script),
        script_hash=_hash(script),
        version=__version__,
    )


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _source(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What a content security policy calls an inline style or script."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _json(value: Any) -> Markup:
    """JSON that no HTML parser takes for a tag."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
