"""Submitting to SLURM: the intent on disk, sbatch, the id on disk; and taking it back."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwspec.engine.pack import Pack
from lwspec.engine.retry import Retries
from lwspec.engine.runfolder import Runs
from lwspec.engine.slurm import offers as cluster_offers
from lwspec.engine.slurm import sbatch
from lwspec.engine.slurm.arrays import Array, arrays, minutes, parameters
from lwspec.engine.slurm.cluster import Cluster
from lwspec.engine.slurm.submission import intend
from lwspec.engine.slurm.watch import Watched
from lwspec.errors import ClusterError

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


def open_target(name: str, cluster: Cluster, runs: Runs, home: Path | None) -> Target:
    """Ask a cluster what it offers. Raises ClusterError where the run folders are out of reach."""
    offers = cluster_offers.ask()
    partition = offers.partition(cluster.partition)
    mounts = Path("/proc/mounts").read_text(encoding="utf-8")
    cluster_offers.check_shared(cluster, partition, runs.path, mounts)
    return Target(name, cluster, offers, home)


def prepare(
    packs: Sequence[Pack],
    target: Target,
    allowance_s: Mapping[str, float],
    queued: Mapping[str, str],
) -> list[tuple[Array, int]]:
    """Arrays with their minutes. Raises ClusterError where the cluster does not offer them."""
    partition = target.offers.partition(target.cluster.partition)
    limits = [limit for limit in (target.cluster.minutes, partition.minutes) if limit]
    made = list(arrays(packs, queued, target.offers.most_elements))
    for array in made:
        cluster_offers.check(target.cluster, target.offers, array.gpus, array.threads)
    whole = [(array, minutes(array, allowance_s, min(limits, default=None))) for array in made]
    for _, limit in whole:
        if limit * 60 < target.cluster.warning_s + NOTICE_S:
            raise ClusterError(
                f"{limit} minutes leave no time to work before the warning, which SLURM may give a "
                f"minute earlier than {target.cluster.warning_s} s before the end",
                remedy="raise minutes, or lower warning_s, in the cluster's table",
            )
    return whole


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
    for array, limit_minutes in made:
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
            raise ClusterError(f"scancel does not answer: {error}") from None
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
