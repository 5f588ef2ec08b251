"""What a cluster offers, and whether it offers what an array asks: before anything is submitted."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from lwspec.engine.executors.slurm.limits import (
    ASSOCIATION,
    QUALITY,
    Allowed,
    Association,
    Quality,
    allowed,
    association,
    in_minutes,
    quality,
)
from lwspec.engine.executors.slurm.queue import this_user
from lwspec.engine.runs.file_system import NETWORKED, file_system, file_systems
from lwspec.engine.spec.cluster import Cluster
from lwspec.errors import BusyError, ClusterError, nearest

Line = TypeVar("Line")


@dataclass(frozen=True)
class Partition:
    """One partition and what its nodes have."""

    name: str
    default: bool
    minutes: int | None
    """The longest job; None without a limit."""
    gpus: frozenset[tuple[str | None, int]]
    """Types and numbers of GPUs that a node has; None where the type has no name."""
    cpus: int
    memory_mb: int
    hosts: frozenset[str]
    qos: str | None = None
    """Whose limits hold for every job in it."""


@dataclass(frozen=True)
class Offers:
    """What one cluster offers this user."""

    partitions: tuple[Partition, ...]
    associations: tuple[Association, ...]
    """What the user may submit under; empty where there is no accounting, or it does not say."""
    qualities: Mapping[str, Quality]
    enforced: bool
    """Whether the limits of accounts and QOS are."""
    most_elements: int
    """Of one array."""

    def allowed(self, cluster: Cluster) -> Allowed:
        """What accounts and QOS allow of what is asked for. Raises ClusterError."""
        place = self.partition(cluster.partition)
        found = allowed(cluster, place.name, place.qos, self.associations, self.qualities)
        return found if self.enforced else Allowed()

    def partition(self, name: str | None) -> Partition:
        """The partition of a name, or the default one. Raises ClusterError."""
        names = [partition.name for partition in self.partitions]
        for partition in self.partitions:
            if partition.name == name or (name is None and partition.default):
                return partition
        if name is None:
            raise ClusterError(
                "the cluster has no default partition",
                remedy=f"set partition to one of {', '.join(names)}",
            )
        raise ClusterError(
            f"the cluster has no partition {name!r}",
            nearest=nearest(name, names),
            remedy=f"partitions here: {', '.join(names)}",
        )


def ask() -> Offers:
    """Ask sinfo, scontrol and, where there is accounting, sacctmgr. Raises ClusterError."""
    if shutil.which("sbatch") is None:
        raise ClusterError(
            "sbatch is not here: this is no machine of a SLURM cluster",
            remedy="lwspec submit --executor local, or submit from a login node",
        )
    nodes = _run(
        ["sinfo", "--all", "--noheader", "--exact", "--Node", "--format", "%P|%l|%G|%c|%m|%n"]
    )
    config = _run(["scontrol", "show", "config"])
    most = re.search(r"^MaxArraySize\s*=\s*(\d{1,9})\b", config, re.M)
    partitions: dict[str, Partition] = {}
    for partition in _lines("sinfo", nodes, _partition):
        known = partitions.get(partition.name)
        partitions[partition.name] = _widest(known, partition) if known else partition
    shown = _run(["scontrol", "--all", "--oneliner", "show", "partition"])
    qos = {line[0]: line[1] for line in re.findall(r"PartitionName=(\S+).* QoS=(\S+)", shown)}
    accounted = "accounting_storage/slurmdbd" in config
    name = re.search(r"^ClusterName\s*=\s*(\S+)", config, re.M)
    enforced = re.search(r"^AccountingStorageEnforce\s*=.*\b(limits|safe|all)\b", config, re.M)
    associations, qualities = _accounting(name[1]) if accounted and name else ((), {})
    return Offers(
        tuple(replace(each, qos=qos.get(each.name)) for each in partitions.values()),
        associations,
        qualities,
        enforced is not None,
        int(most[1]) if most else 1001,
    )


def _partition(line: str) -> Partition:
    """One line of sinfo: partition, time limit, gres, CPUs, memory, host."""
    name, limit, gres, cpus, memory, host = line.split("|")
    return Partition(
        name.rstrip("*"),
        name.endswith("*"),
        in_minutes(limit),
        frozenset(gpus_of(gres)),
        int(cpus.rstrip("+")),
        int(memory.rstrip("+")),
        frozenset([host]),
    )


def _widest(one: Partition, other: Partition) -> Partition:
    return Partition(
        one.name,
        one.default,
        one.minutes,
        one.gpus | other.gpus,
        max(one.cpus, other.cpus),
        max(one.memory_mb, other.memory_mb),
        one.hosts | other.hosts,
    )


def gpus_of(gres: str) -> set[tuple[str | None, int]]:
    """`gpu:h200:4(S:0-1),gpu:2` as types and numbers."""
    found = re.findall(r"(?:^|,)gpu(?::([^:,()]+))?:(\d{1,9})(?=[(,]|$)", gres)
    return {(kind or None, int(number)) for kind, number in found}


def _accounting(cluster: str) -> tuple[tuple[Association, ...], dict[str, Quality]]:
    """What sacctmgr says of this user and of every QOS; nothing where it says nothing readable."""
    user, show = this_user(), ["sacctmgr", "--noheader", "--parsable2", "show"]
    try:
        mine = _run(
            [*show, "user", user, "withassoc", f"cluster={cluster}", f"format={ASSOCIATION}"]
        )
        qualities = _run([*show, "qos", f"format={QUALITY}"])
        associations = _lines("sacctmgr", mine, association)
        return tuple(associations), dict(_lines("sacctmgr", qualities, quality))
    except ClusterError:
        return (), {}  # sbatch still refuses what is over a limit


def _lines(program: str, text: str, read: Callable[[str], Line]) -> list[Line]:
    """What a program printed, line by line. Raises ClusterError at one that cannot be read."""
    found = []
    for line in text.splitlines():
        try:
            found.append(read(line))
        except ValueError:
            raise ClusterError(
                f"{program} printed a line that cannot be read: {line[:200]!r}",
                remedy="try it by hand; then the same command again",
            ) from None
    return found


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BusyError(f"{command[0]} does not answer: {error}") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise BusyError(
            f"{command[0]} does not answer: {said[-1] if said else 'no reason given'}",
            remedy="try it by hand; then the same command again",
        )
    return done.stdout


def check(cluster: Cluster, offers: Offers, gpus: int, threads: int) -> None:
    """Raise ClusterError where the cluster does not offer what is asked."""
    partition = offers.partition(cluster.partition)
    if cluster.minutes and partition.minutes and cluster.minutes > partition.minutes:
        raise ClusterError(
            f"{cluster.minutes} minutes are asked for; the partition {partition.name!r} allows "
            f"{partition.minutes}",
            remedy=f"set minutes to at most {partition.minutes}",
        )
    if threads > partition.cpus:
        raise ClusterError(
            f"{threads} threads are asked for; the largest node of {partition.name!r} has "
            f"{partition.cpus}",
            remedy=f"set resources.threads to at most {partition.cpus}",
        )
    if cluster.memory_gb and cluster.memory_gb * 1024 > partition.memory_mb:
        most = partition.memory_mb / 1024
        raise ClusterError(
            f"{cluster.memory_gb:g} GB are asked for; the largest node of {partition.name!r} has "
            f"{most:.1f}",
            remedy=f"set memory_gb to at most {most:.1f}",
        )
    _check_gpus(cluster, partition, gpus)


def _check_gpus(cluster: Cluster, partition: Partition, gpus: int) -> None:
    if not gpus:
        return
    there = sorted(f"{number} {kind or 'of no named type'}" for kind, number in partition.gpus)
    fitting = [
        number for kind, number in partition.gpus if cluster.gpu is None or kind == cluster.gpu
    ]
    if gpus > max(fitting, default=0):
        kinds = {kind for kind, _ in partition.gpus if kind}
        raise ClusterError(
            f"{gpus} GPU {cluster.gpu or ''} are asked for; no node of {partition.name!r} has them",
            nearest=nearest(cluster.gpu, kinds) if cluster.gpu else None,
            remedy=f"GPUs a node here: {', '.join(there) or 'none'}",
        )


def check_shared(cluster: Cluster, partition: Partition, runs: Path, mounts: str) -> None:
    """Raise ClusterError for run folders on a file system that other nodes cannot see.

    `mounts` is the text of /proc/mounts.
    """
    here = {socket.gethostname(), socket.gethostname().partition(".")[0], "localhost"}
    if cluster.shared_runs or partition.hosts <= here:
        return
    kinds = file_systems(mounts)
    place, kind = file_system(runs, mounts)
    if kind.startswith(NETWORKED):
        return
    shared = sorted(p for p, kind in kinds.items() if kind.startswith(NETWORKED))
    raise ClusterError(
        f"the run folders lie on {place} ({kind}), which other nodes do not see",
        where=str(runs.resolve()),
        remedy="--runs on a shared file system"
        + (f" ({', '.join(shared[:4])})" if shared else "")
        + ", or shared_runs = true in the cluster's table if they do see it",
    )
