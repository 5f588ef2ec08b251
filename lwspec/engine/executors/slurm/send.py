"""Submitting to SLURM: the intent on disk, sbatch, the id on disk; and taking it back."""

from __future__ import annotations

import math
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwspec.engine.executors.slurm import offers as cluster_offers
from lwspec.engine.executors.slurm import sbatch
from lwspec.engine.executors.slurm.arrays import Array, arrays, minutes, parameters
from lwspec.engine.executors.slurm.limits import Allowed
from lwspec.engine.executors.slurm.queue import in_queue, this_user
from lwspec.engine.executors.slurm.submission import intend
from lwspec.engine.executors.slurm.watch import Watched
from lwspec.engine.plan.pack import Pack
from lwspec.engine.runs.file_system import mounts
from lwspec.engine.runs.runfolder import Runs
from lwspec.engine.spec.cluster import Cluster
from lwspec.engine.spec.spec import Retries
from lwspec.errors import BusyError, ClusterError

NOTICE_S = 90
"""SLURM looks at time limits once a minute; half a minute to start and work."""

AT_ONCE = 500
"""Ids that one scancel is given."""


@dataclass(frozen=True)
class Target:
    """A cluster by its name in the spec, its settings, and what it offers."""

    name: str
    cluster: Cluster
    offers: cluster_offers.Offers
    home: Path | None
    """The copy of the code that jobs run; None where they run it as it is when they start."""
    allowed: Allowed
    room: int | None
    """How many more allocations the user may have there now; None for any number."""


def open_target(name: str, cluster: Cluster, runs: Runs, home: Path | None) -> Target:
    """Ask a cluster what it offers. Raises ClusterError where the run folders are out of reach."""
    offers = cluster_offers.ask()
    partition = offers.partition(cluster.partition)
    cluster_offers.check_shared(cluster, partition, runs.path, mounts())
    allowed = offers.allowed(cluster)
    queued = in_queue(this_user()) if allowed.counted else ()
    return Target(name, cluster, offers, home, allowed, allowed.room(queued))


def prepare(
    packs: Sequence[Pack],
    target: Target,
    allowance_s: Mapping[str, float],
    unsaved_s: Mapping[str, float],
    queued: Mapping[str, str],
) -> list[tuple[Array, int]]:
    """Arrays with their minutes. Raises ClusterError where the cluster does not offer them.

    `unsaved_s` is how long each job may work before it first has something to go on from.
    """
    cluster, offers = target.cluster, target.offers
    partition = offers.partition(cluster.partition)
    found = (cluster.minutes, partition.minutes, target.allowed.minutes)
    most = min((limit for limit in found if limit), default=None)
    sizes = (offers.most_elements, target.allowed.elements, target.room)
    made = list(arrays(packs, queued, min(size for size in sizes if size)))
    for array in made:
        cluster_offers.check(cluster, offers, array.gpus, array.threads)
    whole = [(array, minutes(array, allowance_s, cluster.warning_s, most)) for array in made]
    for array, limit in whole:
        _check_warning(limit, cluster.warning_s)
        if limit == most:
            _check_time(array, limit, cluster.warning_s, unsaved_s)
    return whole


def _check_warning(limit_minutes: int, warning_s: int) -> None:
    """Raise ClusterError where an allocation would be warned as soon as it works."""
    if limit_minutes * 60 < warning_s + NOTICE_S:
        raise ClusterError(
            f"{limit_minutes} minutes leave no time to work before the warning, which SLURM may "
            f"give a minute earlier than {warning_s} s before the end",
            remedy="raise minutes, or lower warning_s, in the cluster's table",
        )


def _check_time(
    array: Array, most_minutes: int, warning_s: int, unsaved_s: Mapping[str, float]
) -> None:
    """Raise ClusterError where what saves nothing half-way may not end in the longest allocation.

    Only jobs in `unsaved_s` are looked at.
    """
    for job in (job for pack in array.packs for job in pack.jobs):
        needed_s = unsaved_s.get(job.id, 0.0) + warning_s
        if needed_s > most_minutes * 60:
            raise ClusterError(
                f"{job.kind} {job.label} may work {unsaved_s[job.id] / 60:.0f} minutes before it "
                f"has saved anything; an allocation of {most_minutes} minutes would end first, "
                "again and again",
                remedy=f"raise minutes to {math.ceil(needed_s / 60)} where the partition and the "
                "QOS allow it",
            )


def send(
    made: Sequence[tuple[Array, int]],
    target: Target,
    runs: Runs,
    spec: str,
    retries: Retries,
    observe: Callable[[int], None],
) -> None:
    """Submit arrays in order; `observe` is told how many elements each had.

    The intent is on disk before sbatch is called and the id after: what comes between is found by
    the submission's name. Raises ClusterError where sbatch refuses; what went before it stays.
    """
    ids: dict[str, str] = {}
    room = math.inf if target.room is None else target.room
    for sent, (array, limit_minutes) in enumerate(made):
        room -= len(array.packs)
        if room < 0:
            raise BusyError(
                f"the cluster {target.name!r} takes no more jobs of yours at once; "
                f"{sum(len(array.packs) for array, _ in made[sent:])} allocations are left",
                remedy="submit --wait sends them as others end, and so does submitting again",
            )
        after = sorted(ids.get(each, each) for each in array.after)
        intent = {
            "cluster": target.name,
            "packs": [{"id": p.id, "jobs": [job.id for job in p.jobs]} for p in array.packs],
            "after": after,
            "minutes": limit_minutes,
            "retries": retries.model_dump(),
            "code": target.home.name if target.home else None,
        }
        submission = intend(runs, spec, intent)
        asked = asked_of(array, target.cluster, submission.name, after, limit_minutes, target.home)
        array_id = sbatch.send(asked, len(array.packs), submission.path)
        submission.record_id(array_id)
        ids.update({p.id: f"{array_id}_{index}" for index, p in enumerate(array.packs)})
        observe(len(array.packs))


def asked_of(
    array: Array,
    cluster: Cluster,
    name: str,
    after: Sequence[str],
    limit_minutes: int,
    home: Path | None,
) -> dict[str, Any]:
    """What submitit is given, with the snapshot's folder in front of where Python looks."""
    asked = parameters(array, cluster, name, after, limit_minutes)
    if home is not None:
        path = shlex.quote(str(home.resolve()))
        asked["setup"] = [*asked["setup"], f"export PYTHONPATH={path}:$PYTHONPATH"]
    return asked


def cancel(ids: Sequence[str]) -> None:
    """Take allocations back, by SLURM's ids. Raises ClusterError where scancel refuses."""
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        try:
            done = subprocess.run(["scancel", *some], capture_output=True, text=True, timeout=120)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BusyError(f"scancel does not answer: {error}") from None
        if done.returncode != 0:
            raise ClusterError(f"scancel refused: {done.stderr.strip()}")


def settle_doubts(runs: Runs, look: Callable[[Runs], Watched], wait_s: float) -> Watched:
    """Look until no submission is in doubt: intended, unknown to the cluster, and young."""
    deadline = time.monotonic() + wait_s
    while True:
        watched = look(runs)
        doubtful = [
            element
            for job, element in watched.newest.items()
            if element.open
            and watched.held[job].life == "queued"
            and element.submission.array_id() is None
        ]
        if not doubtful or time.monotonic() > deadline:
            return watched
        time.sleep(1.0)
