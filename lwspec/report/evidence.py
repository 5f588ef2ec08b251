"""What stands behind the numbers: the attempts, commits, machines and hours of a plan's results."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from lwspec.engine import store as db
from lwspec.engine.plan import Plan
from lwspec.engine.store import Store


@dataclass(frozen=True)
class Evidence:
    """The attempt that made each taken output of a plan's jobs, and what all attempts cost."""

    attempts: Mapping[tuple[str, int], Mapping[str, Any]]
    makers: Mapping[str, tuple[int, ...]]
    """Job to the attempts whose outputs were taken."""
    labels: Mapping[str, tuple[str, str]]
    """Job to its kind and label."""
    seeds: Mapping[str, str]
    """Job to its seed, where it has one."""
    newest: float
    """When the newest output was finished, in seconds since 1970."""

    def summary(self) -> dict[str, str]:
        """The figures that a paper states of its runs."""
        used = [self.attempts[job, n] for job, made in self.makers.items() for n in made]
        hours = sum(float(row["device_s"]) for row in self.attempts.values()) / 3600
        return {
            "jobs": str(len(self.makers)),
            "attempts": str(len(self.attempts)),
            "hours": f"{hours:.2f}",
            "commits": _distinct(
                (row["git_sha"] or "none")[:12] + (" with changes" if row["dirty"] else "")
                for row in used
            ),
            "hardware": _distinct(row["hardware"] or "unknown" for row in used),
        }

    def listing(self) -> list[dict[str, str]]:
        """One line per attempt whose output was taken, for an appendix."""
        lines = []
        for job, made in self.makers.items():
            kind, label = self.labels[job]
            for number in made:
                row = self.attempts[job, number]
                lines.append(
                    {
                        "job": job,
                        "kind": kind,
                        "label": label,
                        "seeds": self.seeds.get(job, ""),
                        "attempt": str(number),
                        "commit": (row["git_sha"] or "none")[:7] + ("+" if row["dirty"] else ""),
                        "hardware": str(row["hardware"] or "unknown"),
                        "hours": f"{float(row['device_s']) / 3600:.4f}",
                        "command": str(row["command"]),
                    }
                )
        return lines


NO_EVIDENCE = Evidence({}, {}, {}, {}, 0.0)
"""Of a plan that has not run."""


def _distinct(values: Any) -> str:
    return "; ".join(dict.fromkeys(values)) or "none"


def read_evidence(store: Store, plan: Plan) -> Evidence:
    """Read the attempts behind a plan's jobs."""
    jobs = plan.expansion.jobs
    makers: dict[str, set[int]] = {}
    newest = 0.0
    with store.read() as connection:
        columns = db.outputs.c
        for row in connection.execute(select(columns.job, columns.attempt, columns.taken_at)):
            if row.job in jobs:
                makers.setdefault(row.job, set()).add(row.attempt)
                newest = max(newest, row.taken_at)
        attempts = {
            (row["job"], row["number"]): dict(row)
            for row in connection.execute(select(db.attempts)).mappings()
            if row["job"] in jobs
        }
    return Evidence(
        attempts,
        {job: tuple(sorted(makers[job])) for job in jobs if job in makers},
        {job.id: (job.kind, job.label) for job in jobs.values()},
        {
            job: str(cell.seed)
            for cell in plan.expansion.cells
            if cell.seeded
            for job in (cell.evaluate, cell.fit)
            if job is not None
        },
        newest,
    )


def attempt_lines(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """An attempt's evidence as labelled lines."""
    evidence: Mapping[str, Any] = row["evidence"] or {}
    packages = evidence.get("packages", {})
    return [
        ("command", str(row["command"])),
        (
            "commit",
            f"{row['git_sha']}{' with uncommitted changes (code.diff)' if row['dirty'] else ''}",
        ),
        ("hardware", f"{row['hardware']} on {row['host']}"),
        ("time", f"{float(row['wall_s'] or 0):.1f} s"),
        ("memory", f"{int(row['peak_bytes'] or 0) / 2**20:.0f} MiB at the peak"),
        *_repeats(evidence),
        ("packages", shlex.join(f"{name}=={version}" for name, version in packages.items())),
    ]


def _repeats(evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Whether the same job would end with the same bytes, where that was recorded."""
    if "deterministic" not in evidence:
        return []
    exact = evidence["deterministic"]
    return [("repeats", "to the bit" if exact else f"to a few digits: {evidence['varies']}")]
