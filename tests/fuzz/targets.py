"""Every target: what is read, and how many cases it gets in the time that it gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import cluster, commands, papers, records, specs, stored
from tests.fuzz.specs import Case


@dataclass(frozen=True)
class Target:
    """Something that lwspec reads."""

    prepare: Callable[[Path, Path], Case]
    cases: int
    seconds: float
    """Where the cases take longer than this, fewer are made."""
    what: str


TARGETS = {
    "spec": Target(specs.spec_text, 100_000, 420, "a spec's text, to the checked spec"),
    "plan": Target(specs.plan, 15_000, 240, "a spec, to cells, jobs and prices"),
    "events": Target(records.events, 250_000, 120, "events.jsonl"),
    "runs": Target(
        records.run_folder, 20_000, 200,
        "job, started, exit, taken, cancelled, plans and submissions, into results.db",
    ),
    "caches": Target(records.caches, 80_000, 100, "fingerprints, statistics, rates, config.json"),
    "checkpoint": Target(stored.checkpoint, 60_000, 120, "a checkpoint and its sidecar"),
    "states": Target(stored.states, 60_000, 100, "blocks of states"),
    "template": Target(papers.template, 30_000, 200, "the paper's template"),
    "references": Target(papers.references, 120_000, 120, "TABLE:ROW/COLUMN, and LaTeX's escapes"),
    "docstrings": Target(papers.docstrings, 60_000, 40, "an arm's Deviations"),
    "cluster": Target(cluster.answers, 150_000, 150, "squeue, sacct, sinfo, scontrol, sacctmgr"),
    "arguments": Target(commands.arguments, 100_000, 100, "the command line's parser"),
    "verbs": Target(commands.verbs, 4_000, 240, "whole commands over a damaged project"),
}  # fmt: skip
