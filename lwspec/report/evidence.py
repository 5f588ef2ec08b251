"""What stands behind the numbers: the attempts, commits, machines and hours of a plan's results."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from lwspec.engine.plan.plan import Plan
from lwspec.engine.redact import REMOVED
from lwspec.engine.runs.attempt import CODE_DIFF
from lwspec.engine.store import tables as db
from lwspec.engine.store.store import Store


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
    lost: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """Attempts whose code cannot be had again, each with why."""
    commits: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    """Job to what it read from a hub, and at which commit."""

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


def read_evidence(store: Store, plan: Plan, runs: Path) -> Evidence:
    """Read the attempts behind a plan's jobs, and see whether changes to their code were kept."""
    jobs = plan.expansion.jobs
    makers: dict[str, set[int]] = {}
    newest = 0.0
    commits: dict[str, dict[str, str | None]] = {}
    columns = db.outputs.c
    asked = select(columns.job, columns.attempt, columns.taken_at, columns.facts)
    with store.read() as connection:
        for row in connection.execute(asked):
            if row.job in jobs:
                makers.setdefault(row.job, set()).add(row.attempt)
                newest = max(newest, row.taken_at)
                commits.setdefault(row.job, {}).update(row.facts.get("commits", {}))
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
        {key: why for key, row in attempts.items() if (why := _why_lost(row, runs))},
        commits,
    )


def _why_lost(row: Mapping[str, Any], runs: Path) -> str:
    """Why the code of an attempt cannot be had again; empty where commit and changes name it."""
    evidence: Mapping[str, Any] = row["evidence"] or {}
    if row["git_sha"] is None:
        version = evidence.get("packages", {}).get("lwspec", "of unknown version")
        return f"of no commit (lwspec {version})"
    if not row["dirty"]:
        return ""
    diff = runs / row["job"] / f"attempt-{row['number']}" / CODE_DIFF
    if not diff.exists():
        return "with uncommitted changes that were not kept"
    whole = REMOVED not in diff.read_text(encoding="utf-8")
    return "" if whole else "with uncommitted changes that secrets were taken out of"


def lost_behind(jobs: Iterable[str], plan: Plan, evidence: Evidence) -> dict[str, int]:
    """How many runs behind jobs have code that cannot be had again; by why."""
    behind = _behind(jobs, plan)
    used = {(job, number) for job in behind for number in evidence.makers.get(job, ())}
    return dict(sorted(Counter(evidence.lost[run] for run in used & {*evidence.lost}).items()))


def moved_behind(jobs: Iterable[str], plan: Plan, evidence: Evidence) -> dict[str, list[str]]:
    """What the runs behind jobs read from a hub at more than one commit, with these."""
    found: dict[str, set[str]] = {}
    for job in _behind(jobs, plan):
        for place, commit in evidence.commits.get(job, {}).items():
            found.setdefault(place, set()).add(commit or "unknown")
    return {place: sorted(found[place]) for place in sorted(found) if len(found[place]) > 1}


def _behind(jobs: Iterable[str], plan: Plan) -> set[str]:
    """The jobs, and what they were made from at any distance."""
    behind, waiting = set[str](), list(jobs)
    while waiting:
        job = waiting.pop()
        if job not in behind:
            behind.add(job)
            waiting += plan.expansion.jobs[job].inputs.values()
    return behind


def attempt_lines(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """An attempt's evidence as labelled lines."""
    evidence: Mapping[str, Any] = row["evidence"] or {}
    packages = evidence.get("packages", {})
    ran = [f"{role} at {which}" for role, which in evidence.get("remote_code", {}).items()]
    return [
        *([("model code", ", ".join(ran))] if ran else []),
        ("command", str(row["command"])),
        (
            "commit",
            f"{row['git_sha'] or 'none'}"
            f"{f' with uncommitted changes ({CODE_DIFF})' if row['dirty'] else ''}",
        ),
        ("code", f"{evidence.get('code', 'not recorded')}{_asked_for(evidence)}"),
        ("hardware", f"{row['hardware']} on {row['host']}"),
        *_used(row),
        *_repeats(evidence),
        ("packages", shlex.join(f"{name}=={version}" for name, version in packages.items())),
    ]


def _used(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Time and memory, of an attempt that ended."""
    wall_s, peak_bytes = row["wall_s"], row["peak_bytes"]
    return [
        *([] if wall_s is None else [("time", f"{wall_s:.1f} s")]),
        *([] if peak_bytes is None else [("memory", f"{peak_bytes / 2**20:.0f} MiB at the peak")]),
    ]


def _asked_for(evidence: Mapping[str, Any]) -> str:
    """What is said of code that no submission named, since a person asked for whatever there is."""
    named = evidence.get("submitted_code", "code" not in evidence)
    return "" if named else ", as it was when the job started (--no-snapshot)"


def _repeats(evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Whether the same job would end with the same bytes, where that was recorded."""
    if "deterministic" not in evidence:
        return []
    exact = evidence["deterministic"]
    return [("repeats", "to the bit" if exact else f"to a few digits: {evidence['varies']}")]
