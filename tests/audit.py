"""Hold the pinned packages against what is known of their weaknesses: `make audit`.

    python tests/audit.py constraints.txt

Exit 1 where a package is vulnerable. pip-audit reads a package that a service does not know as one
without weaknesses, and a mirror of PyPI may know none: so what nobody could look at is said, and
does not fail, since work goes on offline.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVICES = ("pypi", "osv")
TIMEOUT_S = 120


@dataclass(frozen=True)
class Audited:
    """What one service said: the packages that it knew, and the weaknesses of some."""

    known: frozenset[str]
    weak: tuple[str, ...]


def read(report: dict[str, Any]) -> Audited:
    """What stands in pip-audit's report."""
    packages = [each for each in report["dependencies"] if "skip_reason" not in each]
    weak = tuple(
        f"{each['name']} {each['version']}: {found['id']}"
        + (f", mended in {', '.join(found['fix_versions'])}" if found["fix_versions"] else "")
        for each in packages
        for found in each["vulns"]
    )
    return Audited(frozenset(each["name"] for each in packages), weak)


def ask(pinned: Path, service: str) -> Audited:
    """Have pip-audit ask one service; nobody known where the service does not answer."""
    command = [
        sys.executable, "-m", "pip_audit", "--requirement", str(pinned), "--no-deps",
        "--disable-pip", "--format", "json", "--progress-spinner", "off",
        "--vulnerability-service", service, "--timeout", "10",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        return read(json.loads(done.stdout))
    except (subprocess.TimeoutExpired, ValueError):
        return Audited(frozenset(), ())


def verdict(pinned: int, audits: Sequence[Audited]) -> tuple[int, list[str]]:
    """The exit status, and what to print."""
    weak = sorted({line for audit in audits for line in audit.weak})
    left = pinned - len(frozenset().union(*(audit.known for audit in audits)))
    said = [f"VULNERABLE {line}" for line in weak]
    if left:
        said.append(
            f"NOT AUDITED: {left} of {pinned} packages, whose weaknesses neither pypi.org nor "
            "osv.dev told; make audit again where they can be reached"
        )
    if not said:
        said.append(f"audited: no weakness is known of {pinned} packages")
    return (1 if weak else 0), said


def main(pinned: Path) -> int:
    """Ask one service, and the next where the first does not know all."""
    count = sum("==" in line for line in pinned.read_text().splitlines())
    audits: list[Audited] = []
    for service in SERVICES:
        audits.append(ask(pinned, service))
        if len(audits[-1].known) >= count:
            break
    status, said = verdict(count, audits)
    print("\n".join(said), file=sys.stderr)
    return status


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
