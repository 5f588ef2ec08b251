"""Packs into arrays, and an array into what sbatch is asked for: pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lwspec.engine.plan.pack import Pack
from lwspec.engine.spec.cluster import Cluster

START_MINUTES = 5
"""Of an allocation, beside what its jobs are allowed: loading libraries and models."""


@dataclass(frozen=True)
class Array:
    """Packs that ask for the same and wait for the same, in one submission."""

    packs: tuple[Pack, ...]
    after: frozenset[str]
    """What must end well before: ids of packs submitted before, or SLURM's own ids."""

    @property
    def gpus(self) -> int:
        """GPUs of each element."""
        return max(job.gpus for job in self.packs[0].jobs)

    @property
    def threads(self) -> int:
        """Threads of each element."""
        return max(job.threads for job in self.packs[0].jobs)

    @property
    def alone(self) -> bool:
        """Whether each element wants a node of its own: what runs beside it would be timed too."""
        return any(job.alone for job in self.packs[0].jobs)


def arrays(packs: Sequence[Pack], queued: Mapping[str, str], most: int) -> Iterator[Array]:
    """Packs, inputs first, in arrays of at most `most` elements, each after those it waits for.

    `queued` are jobs that wait or run in SLURM already, with the ids of their allocations.
    """
    holder = {job.id: pack.id for pack in packs for job in pack.jobs} | dict(queued)
    groups: dict[tuple[Any, ...], list[Pack]] = {}
    for pack in _inputs_first(packs, holder):
        after = frozenset(holder[source] for source, _ in pack.waits_for() if source in holder)
        probe = Array((pack,), after)
        groups.setdefault((probe.gpus, probe.threads, probe.alone, after), []).append(pack)
    for (_, _, _, after), group in groups.items():
        for start in range(0, len(group), most):
            yield Array(tuple(group[start : start + most]), after)


def _inputs_first(packs: Sequence[Pack], holder: Mapping[str, str]) -> Iterable[Pack]:
    """Packs in an order in which each comes after those that it waits for."""
    left = {pack.id: pack for pack in packs}
    while left:
        ready = [
            pack
            for pack in left.values()
            if not any(holder.get(source) in left for source, _ in pack.waits_for())
        ]
        assert ready, "packs that wait for each other"
        yield from ready
        for pack in ready:
            del left[pack.id]


def minutes(
    array: Array, allowance_s: Mapping[str, float], warning_s: int, most: int | None
) -> int:
    """The time limit of an array's elements: what the longest pack's jobs may take, unwarned."""
    seconds = max(
        sum(allowance_s[job.id] / job.weight for job in pack.jobs) for pack in array.packs
    )
    whole = math.ceil((seconds + warning_s) / 60) + START_MINUTES
    return min(whole, most) if most else whole


def parameters(
    array: Array, cluster: Cluster, name: str, after: Sequence[str], limit_minutes: int
) -> dict[str, Any]:
    """What submitit's SLURM executor is given for an array; `after` are SLURM's ids."""
    asked: dict[str, Any] = {
        "job_name": name,
        "time": limit_minutes,
        "ntasks_per_node": 1,
        "cpus_per_task": array.threads,
        "mem": f"{math.ceil(cluster.memory_gb * 1024)}MB" if cluster.memory_gb else None,
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "constraint": cluster.constraint,
        "signal_delay_s": cluster.warning_s,
        "array_parallelism": cluster.at_once,
        "stderr_to_stdout": True,
        "wckey": None,
        "exclusive": True if array.alone else None,
        # srun does not take the number of CPUs over from sbatch since SLURM 22.05.
        "srun_args": [f"--cpus-per-task={array.threads}"],
        "setup": [f"module load {module}" for module in cluster.modules] + list(cluster.setup),
        "additional_parameters": {
            "requeue": True,
            "kill-on-invalid-dep": "yes",
            **{key: value for key, value in cluster.sbatch.items() if value is not False},
        },
    }
    if array.gpus:
        kind = f"{cluster.gpu}:" if cluster.gpu else ""
        asked["gres"] = f"gpu:{kind}{array.gpus}"
    if after:
        asked["dependency"] = "afterok:" + ":".join(sorted(after))
    return {key: value for key, value in asked.items() if value is not None or key == "wckey"}
