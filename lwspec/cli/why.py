"""`lwspec why REF`: the chain from whatever the other verbs name to what made it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from lwspec.cli.report import read_content
from lwspec.cli.session import open_session
from lwspec.cli.terminal import printable
from lwspec.report.why import explain


def main(options: argparse.Namespace) -> int:
    """Print the chain, for a person or as JSON."""
    session = open_session(options.spec, options.db, options.runs, quiet=options.json)
    chain = explain(options.ref, read_content(session), session.runs.path)
    if options.json:
        print(json.dumps(chain, indent=1))
        return 0
    for key, value in chain.items():
        if key != "jobs" and value is not None:
            print(printable(f"{key:<9}{_short(value)}"))
    packages = ""
    for job in chain["jobs"]:
        packages = _show(job, packages)
    return 0


def _short(value: Any) -> str:
    """Numbers as a table shows them."""
    if isinstance(value, list):
        return "[" + ", ".join(_short(each) for each in value) + "]"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _show(job: dict[str, Any], packages: str) -> str:
    """Print one job; its packages only where they differ from those printed before."""
    print(f"\n{job['kind']} {job['label']}  {job['job']}  [{job['state']}]")
    for output, metrics in job["metrics"].items():
        shown = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        print(f"  {output:<10}{shown}")
    for name, lines in job["attempts"].items():
        print(f"  {name}")
        for label, text in lines.items():
            if label != "packages" or text != packages:
                print(printable(f"    {label:<10}{text}"))
        packages = lines.get("packages", packages)
    for file, sha in job["files"].items():
        print(f"  file      {file}  sha256 {sha[:12]}")
    return packages
