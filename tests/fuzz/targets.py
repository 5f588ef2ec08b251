"""Every target: what is read, and how many cases it gets in the processor time that it gets."""

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
    """Of a processor: where the cases take longer than this, fewer are made."""
    what: str


TARGETS = {
    "spec": Target(specs.spec_text, 60_000, 420, "a spec's text, to the checked spec"),
    "plan": Target(specs.plan, 20_000, 90, "a spec, to cells, jobs and prices"),
    "events": Target(records.events, 80_000, 80, "events.jsonl"),
    "runs": Target(
        records.run_folder, 10_000, 90,
        "job, started, exit, taken, cancelled, plans and submissions, into results.db",
    ),
    "caches": Target(records.caches, 150_000, 150, "fingerprints, statistics, rates, config.json"),
    "checkpoint": Target(stored.checkpoint, 120_000, 150, "a checkpoint and its sidecar"),
    "states": Target(stored.states, 250_000, 130, "blocks of states"),
    "template": Target(papers.template, 6_000, 100, "the paper's template"),
    "references": Target(papers.references, 100_000, 120, "TABLE:ROW/COLUMN, and LaTeX's escapes"),
    "docstrings": Target(papers.docstrings, 150_000, 60, "an arm's Deviations"),
    "cluster": Target(cluster.answers, 300_000, 250, "squeue, sacct, sinfo, scontrol, sacctmgr"),
    "arguments": Target(commands.arguments, 80_000, 100, "the command line's parser"),
    "verbs": Target(commands.verbs, 1_500, 90, "whole commands over a damaged project"),
}  # fmt: skip
