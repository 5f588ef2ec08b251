"""`lwspec init [SPEC]`: a commented spec that can be planned and run as it stands."""

from __future__ import annotations

import argparse
import json
from importlib.resources import files
from pathlib import Path

from lwspec.cli.new.spec import new_spec
from lwspec.engine.spec.schema import json_schema
from lwspec.errors import UsageError
from lwspec.kernels.arms import declarations

SCHEMA = "lwspec.schema.json"
"""The file beside specs that their first lines name."""

IGNORED = ("runs/", "results.db*", "paper/")
"""What commands leave in a project's folder that nobody commits."""


def main(options: argparse.Namespace) -> int:
    """Write the spec, and beside it the paper's template and the schema; overwrite nothing."""
    spec: Path = options.spec
    if spec.suffix != ".toml":
        raise UsageError(f"{spec} does not end in .toml", remedy=f"lwspec init {spec}.toml")
    template = spec.with_suffix(".tex")
    for path in (spec, template):
        if path.exists():
            raise UsageError(f"{path} exists already", remedy="lwspec init OTHER.toml")
    spec.parent.mkdir(parents=True, exist_ok=True)
    paper = (files("lwspec.cli.new") / "templates" / "paper.tex").read_text(encoding="utf-8")
    _write(template, paper)
    try:
        text = new_spec(spec, options.sender, options.receiver, options.task, options.runs)
    except BaseException:
        template.unlink()  # which the spec was checked with
        raise
    _write(spec, text)
    print(f"wrote    {spec}: check what its comments say")
    print(f"wrote    {template}: the paper's template")
    if not (schema := spec.parent / SCHEMA).exists():
        _write(schema, json.dumps(json_schema(declarations()), indent=1) + "\n")
        print(f"wrote    {schema}: what editors complete and check specs with")
    _ignore(Path(".gitignore"))
    print(f"next     lwspec plan {spec}, then lwspec submit; or lwspec run {spec} for both")
    return 0


def _write(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)


def _ignore(path: Path) -> None:
    """Keep runs and records out of git, or say what a file that is there lacks."""
    if not path.exists():
        _write(path, "".join(f"{line}\n" for line in IGNORED))
        print(f"wrote    {path}: runs and records stay out of git")
        return
    there = {line.strip().strip("/") for line in path.read_text(encoding="utf-8").splitlines()}
    lacking = [line for line in IGNORED if line.strip("/") not in there]
    if lacking:
        print(f"note     {path} lacks {', '.join(lacking)}: runs and records are not for commits")
