"""Packs: which jobs run in one process, because they share frozen models or states."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

from lwspec.engine.job import Job, canonical

JOINS_FIT = 0.1
"""Of a start: what an evaluation adds to the process of its fit."""


@dataclass(frozen=True)
class Pack:
    """Jobs of one process, inputs first: fits side by side, the rest one after the other."""

    id: str
    jobs: tuple[Job, ...]

    @property
    def label(self) -> str:
        """For people: the first job and how many follow."""
        more = f" +{len(self.jobs) - 1}" if len(self.jobs) > 1 else ""
        return self.jobs[0].label + more

    def waits_for(self) -> set[tuple[str, tuple[str, ...]]]:
        """Jobs outside the pack, each with the outputs that must be there before it starts."""
        inside = {job.id for job in self.jobs}
        return {
            (source, job.reads[role])
            for job in self.jobs
            for role, source in job.inputs.items()
            if source not in inside
        }


def packs(jobs: Sequence[Job], side_by_side: int) -> list[Pack]:
    """Group jobs, which come inputs first.

    Fits that differ in seed alone are trained `side_by_side`, at most so many. An evaluation joins
    the fit that it measures; one without a fit has a process of its own, whose start it bears in
    what it costs as every other does. The sender's passes over one task are joined. What is timed
    runs alone.
    """
    groups: dict[str, list[Job]] = {}
    home = _homes(jobs, side_by_side)
    for job in jobs:
        groups.setdefault(_group(job, home), []).append(job)
    ordered = [sorted(group, key=lambda job: not job.shares) for group in groups.values()]
    return [Pack(_pack_id(group), tuple(group)) for group in ordered]


def _homes(jobs: Sequence[Job], side_by_side: int) -> dict[str, str]:
    """The group of each fit, named after its first."""
    together: dict[str, list[str]] = {}
    for job in (job for job in jobs if job.kind == "fit"):
        together.setdefault(job.alike, []).append(job.id)
    return {
        fit: ids[place - place % side_by_side]
        for ids in together.values()
        for place, fit in enumerate(ids)
    }


def _group(job: Job, home: Mapping[str, str]) -> str:
    if job.alone:
        return job.id
    fit = job.inputs.get("fit", job.id)
    if fit in home:
        return home[fit]
    if job.step in ("states", "pooled", "text"):
        return canonical(["sender", job.inputs["data"], job.settings["model"]])
    return job.id


def _pack_id(group: Sequence[Job]) -> str:
    return hashlib.sha256(canonical([job.id for job in group]).encode()).hexdigest()[:16]


def start_shares(packed: Sequence[Pack]) -> dict[str, float]:
    """Each job's part of the start of its pack's process, in which models are loaded once.

    Where the pack has fits they bear it, and evaluations join them for little.
    """
    shares = {}
    for pack in packed:
        fits = sum(job.kind == "fit" for job in pack.jobs)
        for job in pack.jobs:
            joins = fits and job.kind != "fit"
            shares[job.id] = JOINS_FIT if joins else 1 / (fits or len(pack.jobs))
    return shares


def longest_first(packed: Sequence[Pack], hours: Mapping[str, float]) -> list[Pack]:
    """Packs, that one first whose own hours and longest chain of packs behind it are the most.

    So whoever takes the first that can start seldom waits for a single one at the end: list
    scheduling by the critical path.
    """
    home = {job.id: pack.id for pack in packed for job in pack.jobs}
    sources = {
        pack.id: {home[job] for job, _ in pack.waits_for() if job in home} for pack in packed
    }
    chain = {pack.id: sum(hours[job.id] for job in pack.jobs) for pack in packed}
    behind = dict.fromkeys(chain, 0.0)
    for pack in reversed(tuple(TopologicalSorter(sources).static_order())):
        chain[pack] += behind[pack]
        for source in sources[pack]:
            behind[source] = max(behind[source], chain[pack])
    return sorted(packed, key=lambda pack: -chain[pack.id])


def in_order(jobs: Mapping[str, Job], wanted: set[str]) -> list[Job]:
    """The wanted jobs, inputs first."""
    return [job for job in jobs.values() if job.id in wanted]
