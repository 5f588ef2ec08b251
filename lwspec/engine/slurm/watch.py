"""Every job's newest allocation and what it is at, from one squeue and at most one sacct."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lwspec.engine.runfolder import Runs
from lwspec.engine.slurm.life import REQUEUED, Cluster, Held, Marks, life
from lwspec.engine.slurm.queue import Listed, sacct, squeue
from lwspec.engine.slurm.submission import Submission, submissions

Key = tuple[str, int]
"""A submission's name and an element's index."""


@dataclass(frozen=True)
class Element:
    """One allocation: an element of a submitted array."""

    submission: Submission
    index: int
    jobs: tuple[str, ...]
    marks: Marks

    @property
    def key(self) -> Key:
        """What names it here."""
        return self.submission.name, self.index

    @property
    def open(self) -> bool:
        """Whether the cluster may know more of it than its own marks say."""
        return self.marks.ended in (None, REQUEUED)


@dataclass(frozen=True)
class Watched:
    """What became of every allocation."""

    newest: Mapping[str, Element]
    """Each job's newest allocation."""
    held: Mapping[str, Held]
    """What that allocation is at."""

    def slurm_id(self, job: str) -> str | None:
        """What SLURM calls a job's newest allocation."""
        element = self.newest[job]
        array_id = element.submission.array_id()
        return f"{array_id}_{element.index}" if array_id else None


def watch(runs: Runs) -> Watched:
    """Look at the marks, ask the cluster about what is open, and record ids that it tells."""
    newest: dict[str, Element] = {}
    for submission in submissions(runs):
        marks = submission.marks()
        for index, jobs in enumerate(submission.elements):
            newest.update(dict.fromkeys(jobs, Element(submission, index, jobs, marks[index])))
    unsettled = {element.key: element for element in newest.values() if element.open}
    asked = {element.submission.name: element.submission for element in unsettled.values()}
    queue = squeue() if asked else []
    queued = _states(queue or [], asked)
    silent = {key[0] for key in unsettled if key not in queued}
    account: Sequence[Listed] = ()
    if silent and queue is not None:
        since = min(asked[name].intent["intended_at"] for name in silent)
        account = sacct(silent, since) or ()
    accounted = _states(account, asked)
    now, held = time.time(), {}
    for job, element in newest.items():
        told = Cluster(queue is not None, queued.get(element.key), accounted.get(element.key))
        marks_of = _with_id(element, told)
        at, why = life(marks_of, told, now)
        held[job] = Held(at, why)
    return Watched(newest, held)


def _with_id(element: Element, told: Cluster) -> Marks:
    """The marks, where the id that the cluster has just told was recorded in passing."""
    known = told.queue is not None or told.account is not None
    marks = element.marks
    if marks.submitted or not known:
        return marks
    return Marks(marks.intended_at, True, marks.started_at, marks.beat_at, marks.ended)


def _states(listed: Sequence[Listed], asked: Mapping[str, Submission]) -> dict[Key, str]:
    """States by element; the ids of arrays that were submitted and not recorded are recorded.

    An array that was cancelled before any element of it started is listed as one.
    """
    ids = {name: submission.array_id() for name, submission in asked.items()}
    found: dict[Key, str] = {}
    for row in sorted(listed, key=lambda row: "_" in row.id):
        array_id, _, index = row.id.partition("_")
        if row.name not in asked:
            continue
        if ids[row.name] is None:
            ids[row.name] = array_id
            asked[row.name].record_id(array_id)
        if ids[row.name] == array_id:
            every = range(len(asked[row.name].elements))
            for element in [int(index)] if index else every:
                found[row.name, element] = row.state
    return found
