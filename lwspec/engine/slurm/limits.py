"""What accounts and QOS allow a user: how many jobs at once, and how long. Pure.

A job over a limit on jobs is refused by sbatch; one over a limit on time waits for ever.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lwspec.engine.slurm.cluster import Cluster
from lwspec.errors import ClusterError, nearest

ASSOCIATION = "defaultaccount,account,partition,defaultqos,qos,maxsubmitjobs,maxwall"
QUALITY = "name,maxsubmitjobsperuser,maxsubmitjobsperaccount,grpsubmitjobs,maxwall"
"""What sacctmgr is asked for, in the order in which it is read below."""


@dataclass(frozen=True)
class Limit:
    """What one account or QOS allows each user; None where it sets no limit."""

    of: Literal["account", "qos"]
    name: str
    jobs: int | None
    """That wait or run at once, each element of an array counted."""
    minutes: int | None


@dataclass(frozen=True)
class Association:
    """What a user may submit under, and its limits."""

    account: str
    default: bool
    """Whether jobs that name no account are this one's."""
    partition: str | None
    """None for all of them."""
    default_qos: str | None
    qos: tuple[str, ...]
    limit: Limit


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
        Limit("account", account, int(jobs) if jobs else None, in_minutes(wall)),
    )


def quality(line: str) -> Limit:
    """One line of sacctmgr's on a QOS, in the order of QUALITY."""
    name, *most, wall = line.split("|")
    return Limit(
        "qos", name, min((int(jobs) for jobs in most if jobs), default=None), in_minutes(wall)
    )


def limits_on(
    cluster: Cluster,
    partition: str,
    partition_qos: str | None,
    associations: Sequence[Association],
    qualities: Mapping[str, Limit],
) -> list[Limit]:
    """The limits that hold for what a cluster's settings ask for; none without accounting.

    Raises ClusterError for an account that is not the user's or a QOS that is not the account's.
    """
    if not associations:
        return []
    _check_name("account", cluster.account, {each.account for each in associations})
    mine = [
        each
        for each in associations
        if (each.account == cluster.account if cluster.account else each.default)
        and each.partition in (None, partition)
    ]
    _check_name("QOS", cluster.qos, {name for each in mine for name in each.qos})
    wanted = [cluster.qos] if cluster.qos else [each.default_qos or "normal" for each in mine]
    names = sorted({*wanted, *filter(None, [partition_qos])})
    found = [qualities[name] for name in names if name in qualities]
    return [each.limit for each in mine] + found


def _check_name(what: str, name: str | None, known: Collection[str]) -> None:
    if name is not None and known and name not in known:
        raise ClusterError(
            f"you have no {what} {name!r} on this cluster",
            nearest=nearest(name, known),
            remedy=f"{what} names of yours: {', '.join(sorted(known))}",
        )


def most_minutes(limits: Sequence[Limit]) -> int | None:
    """The longest job that all the limits allow."""
    return min((each.minutes for each in limits if each.minutes is not None), default=None)


def room(limits: Sequence[Limit], queued: Sequence[Mapping[str, str]]) -> int | None:
    """How many more jobs may be submitted now, beside those that the user has; None for any.

    `queued` says the account and the qos of each.
    """
    left = [
        each.jobs - sum(job[each.of] == each.name for job in queued)
        for each in limits
        if each.jobs is not None
    ]
    return max(0, min(left)) if left else None
