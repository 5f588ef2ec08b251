"""What tests of papers share: a template, and the way from a number to its runs."""

from __future__ import annotations

import json
from typing import Any

from conftest import Project

MINIMAL = "\\documentclass{article}\n\\begin{document}\n%s\n\\end{document}\n"


def template(project: Project, text: str) -> None:
    (project.folder / "paper.tex").write_text(text)


def why(project: Project, ref: str) -> dict[str, Any]:
    chain: dict[str, Any] = json.loads(
        project.run("why", ref, "--spec", "small.toml", "--json").stdout
    )
    return chain
