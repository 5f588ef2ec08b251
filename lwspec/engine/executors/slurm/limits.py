"""What accounts and QOS allow a user: how many jobs at once, and how long. Pure.

A job over a limit on jobs is refused by sbatch; one over a limit on time waits for ever. Of the
partition's QOS, the job's and the account's association, the first that sets a limit decides
(SLURM's resource limits, "Precedence").
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lwspec.engine.spec.cluster import Cluster
from lwspec.errors import ClusterError, nearest

ASSOCIATION = "defaultaccount,account,partition,defaultqos,qos,maxsubmitjobs,maxwall"
QUALITY = "name,maxsubmitjobsperuser,maxsubmitjobsperaccount,grpsubmitjobs,maxwall"
"""What sacctmgr is asked for, in the order in which it is read below."""

SHARE = 4
"""An array takes up no more than this part of what several users may have there together."""


@dataclass(frozen=True)
class Quality:
    """The limits of a QOS; None where it sets none."""

    jobs: int | None
    """Of one user's, waiting or running, each element of an array counted."""
    together: int | None
    """Of several users'."""
    minutes: int | None


@dataclass(frozen=True)
class Association:
    """What a user may submit under, and its limits."""

    account: str
    default: bool
    """Whether jobs that name no account are this one's."""
    partition: str | None
    """None for all that have none of their own."""
    default_qos: str | None
    qos: tuple[str, ...]
    jobs: int | None
    minutes: int | None


@dataclass(frozen=True)
class Counted:
    """How many jobs a user may have, of those that squeue lists with a name in a column."""

    jobs: int
    column: Literal["account", "qos", "partition"]
    name: str


@dataclass(frozen=True)
class Allowed:
    """What holds for the jobs of one cluster's settings; None where nothing limits them."""

    minutes: int | None = None
    counted: Counted | None = None
    elements: int | None = None
    """Of one array."""

    def room(self, queued: Sequence[Mapping[str, str]]) -> int | None:
        """How many more jobs may be submitted now, beside those that the user has."""
        if self.counted is None:
            return None
        mine = sum(job[self.counted.column] == self.counted.name for job in queued)
        return max(0, self.counted.jobs - mine)


def in_minutes(limit: str) -> int | None:
    """SLURM's `days-hours:minutes:seconds` in whole minutes; None for `infinite`."""
    if not re.fullmatch(r"[\d:-]+", limit):
        return None
    days, _, rest = limit.rpartition("-")
    hours, minutes, _ = ([0, 0, 0] + [int(part) for part in rest.split(":")])[-3:]
    return int(days or 0) * 1440 + hours * 60 + minutes


def association(line: str) -> Association:
    """One line of sacctmgr's on a user, in the order of ASSOCIATION."""
    default, account, partition, default_qos, qos, jobs, wall = line.split("|")
    return Association(
        account,
        account == default,
        partition or None,
        default_qos or None,
        tuple(filter(None, qos.split(","))),
        int(jobs) if jobs else None,
        in_minutes(wall),
    )


def quality(line: str) -> tuple[str, Quality]:
    """One line of sacctmgr's on a QOS, in the order of QUALITY: its name and limits."""
    name, jobs, *several, wall = line.split("|")
    together = min((int(most) for most in several if most), default=None)
    return name, Quality(int(jobs) if jobs else None, together, in_minutes(wall))


def allowed(
    cluster: Cluster,
    partition: str,
    partition_qos: str | None,
    associations: Sequence[Association],
    qualities: Mapping[str, Quality],
) -> Allowed:
    """What holds for what a cluster's settings ask for; anything without accounting.

    Raises ClusterError for an account that is not the user's or a QOS that is not the account's.
    """
    if not associations:
        return Allowed()
    mine = _association(cluster, partition, associations)
    _check_name("QOS", cluster.qos, mine.qos if mine else ())
    qos = cluster.qos or (mine and _default_qos(mine)) or "normal"
    places: list[tuple[Quality | Association | None, Literal["account", "qos", "partition"], str]]
    places = [
        (qualities.get(partition_qos or ""), "partition", partition),
        (qualities.get(qos), "qos", qos),
        (mine, "account", mine.account if mine else ""),
    ]
    set_here = [(limits, column, name) for limits, column, name in places if limits is not None]
    minutes = (limits.minutes for limits, _, _ in set_here if limits.minutes is not None)
    counted = (
        Counted(limits.jobs, column, name)
        for limits, column, name in set_here
        if limits.jobs is not None
    )
    together = [
        limits.together
        for limits, _, _ in set_here
        if isinstance(limits, Quality) and limits.together is not None
    ]
    return Allowed(
        next(minutes, None),
        next(counted, None),
        max(1, min(together) // SHARE) if together else None,
    )


def _association(
    cluster: Cluster, partition: str, associations: Sequence[Association]
) -> Association | None:
    """The one that decides: the account's own for the partition, or else its general one."""
    _check_name("account", cluster.account, {each.account for each in associations})
    mine = [
        each
        for each in associations
        if (each.account == cluster.account if cluster.account else each.default)
    ]
    exact = [each for each in mine if each.partition == partition]
    general = [each for each in mine if each.partition is None]
    return next(iter([*exact, *general]), None)


def _default_qos(mine: Association) -> str | None:
    return mine.default_qos or (mine.qos[0] if len(mine.qos) == 1 else None)


def _check_name(what: str, name: str | None, known: Collection[str]) -> None:
    if name is not None and known and name not in known:
        raise ClusterError(
            f"you have no {what} {name!r} on this cluster",
            nearest=nearest(name, known),
            remedy=f"{what} names of yours: {', '.join(sorted(known))}",
        )
