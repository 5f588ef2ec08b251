"""What is started again without anybody asking: pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile

from lwspec.engine.job import Job
from lwspec.engine.runs.states import IN_HAND, State
from lwspec.engine.spec.spec import Retries


def again(outcomes: Sequence[str | None], retries: Retries) -> bool:
    """Whether attempts that ended so, oldest first, are followed by another; None is killed."""
    if not outcomes or outcomes[-1] in ("stopped", "finished"):
        return True
    last = outcomes[-1]
    in_a_row = sum(1 for _ in takewhile(lambda outcome: outcome == last, reversed(outcomes)))
    limits = {
        None: retries.killed,
        "out of host memory": retries.killed,
        "network": retries.network,
        "out of memory": retries.out_of_memory,
        "disk": retries.disk,
        "code": retries.code,
    }
    return in_a_row <= limits.get(last, 0)


def due(
    jobs: Iterable[Job],
    found: Mapping[str, State],
    may_again: Callable[[str], bool],
) -> set[str]:
    """The jobs, given inputs first, that wait for nobody's word: theirs or their inputs'.

    `may_again` tells whether a job whose attempts failed may be tried again by itself.
    """
    going = {job for job, state in found.items() if state in IN_HAND}
    wanted: set[str] = set()
    for job in jobs:
        state = found[job.id]
        if job.id in going or state == State.CANCELLED:
            continue
        tried = state in (State.FAILED, State.INTERRUPTED, State.LOST)
        if tried and not may_again(job.id):
            continue
        if all(source in going or source in wanted for source in job.inputs.values()):
            wanted.add(job.id)
    return wanted
