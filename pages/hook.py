"""What mkdocs calls: a page's marks, `<!-- NAME -->`, give way to what the code declares."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # mkdocs loads this file by its path

from pages.errors import errors  # noqa: E402
from pages.keys import spec_keys  # noqa: E402
from pages.reference import arms, commands, controls, metrics  # noqa: E402

GENERATED: Mapping[str, Callable[[], str]] = {
    "spec keys": spec_keys,
    "commands": commands,
    "arms": arms,
    "controls": controls,
    "metrics": metrics,
    "errors": errors,
}
MARK = re.compile(r"^<!-- (.+) -->$", re.M)


def filled(markdown: str) -> str:
    """A page with its generated parts."""
    return MARK.sub(lambda mark: GENERATED[mark[1]](), markdown)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill a page before mkdocs renders it."""
    return filled(markdown)
