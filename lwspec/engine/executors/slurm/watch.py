"""Every job's newest allocation and what it is at, from one squeue and at most one sacct."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lwspec.engine.executors.slurm.queue import Listed, sacct, squeue
from lwspec.engine.executors.slurm.submission import Submission, submissions
from lwspec.engine.runs.life import Held, Life, Marks, Told, life
from lwspec.engine.runs.runfolder import Runs

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
        return self.marks.ended != "finished"


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
    made: Counter[str] = Counter()
    for submission in submissions(runs):
        marks = submission.marks()
        for index, jobs in enumerate(submission.elements):
            newest.update(dict.fromkeys(jobs, Element(submission, index, jobs, marks[index])))
            made.update(jobs)
    told = _ask({element.key: element for element in newest.values() if element.open})
    now, held = time.time(), {}
    for job, element in newest.items():
        said = told.get(element.key, Told(asked=True))
        at, why = life(_with_id(element, said), said, now)
        failed = (at, why) == (Life.ENDED, "failed")
        often = made[job] > element.submission.intent["retries"]["killed"]
        held[job] = Held(at, why, failed and often and _never_began(runs, job))
    return Watched(newest, held)


def granted_s(runs: Runs, watched: Watched, spec: str) -> dict[str, float]:
    """What each job of a spec that SLURM holds may still spend, in device seconds.

    Jobs that the spec no longer asks for are among them: they spend of its budget too.
    """
    granted = {}
    for job, held in watched.held.items():
        folder = runs.folder(job)
        if held.life not in (Life.QUEUED, Life.RUNNING):
            continue
        if watched.newest[job].submission.intent["spec"] != spec:
            continue
        if not (folder.path / "job.json").exists():  # taken away by hand
            continue
        record = folder.record()
        may_spend = record["charge"] and folder.owed(record["outputs"])
        granted[job] = max(0.0, record["allowance_s"] - folder.spent_s()) if may_spend else 0.0
    return granted


def _ask(unsettled: Mapping[Key, Element]) -> dict[Key, Told]:
    """What the cluster says of elements."""
    if not unsettled:
        return {}
    asked = {element.submission.name: element.submission for element in unsettled.values()}
    queue = squeue({str(submission.intent["user"]) for submission in asked.values()})
    queued = _listed(queue or (), asked)
    silent = {
        key[0] for key, one in unsettled.items() if key not in queued and one.marks.ended is None
    }
    account: Sequence[Listed] = ()
    if silent and queue is not None:
        account = sacct(silent, min(asked[name].intent["intended_at"] for name in silent)) or ()
    accounted = _listed(account, asked)
    return {
        key: Told(
            queue is not None,
            queued[key].state if key in queued else None,
            accounted[key].state if key in accounted else None,
            queued[key].reason if key in queued else None,
        )
        for key in unsettled
    }


def _with_id(element: Element, told: Told) -> Marks:
    """The marks, where the id that the cluster has just told was recorded in passing."""
    known = told.queue is not None or told.account is not None
    return replace(element.marks, submitted=True) if known else element.marks


def _never_began(runs: Runs, job: str) -> bool:
    """Whether no attempt at a job was made since it was granted, although allocations were."""
    folder = runs.folder(job)
    if not (folder.path / "job.json").exists():  # taken away by hand
        return False
    return not folder.outcomes() and bool(folder.owed(folder.job().outputs))


def _listed(rows: Sequence[Listed], asked: Mapping[str, Submission]) -> dict[Key, Listed]:
    """Rows by element; the ids of arrays that were submitted and not recorded are recorded.

    An array that was cancelled before any element of it started is listed as one.
    """
    ids = {name: submission.array_id() for name, submission in asked.items()}
    found: dict[Key, Listed] = {}
    for row in sorted(rows, key=lambda row: "_" in row.id):
        array_id, _, index = row.id.partition("_")
        if row.name not in asked:
            continue
        if ids[row.name] is None:
            ids[row.name] = array_id
            asked[row.name].record_id(array_id)
        if ids[row.name] == array_id:
            every = range(len(asked[row.name].elements))
            for element in [int(index)] if index else every:
                found[row.name, element] = row
    return found
