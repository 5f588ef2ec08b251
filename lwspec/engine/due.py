"""What is started again without anybody asking: pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from lwspec.engine.job import Job
from lwspec.engine.retry import Retries, again
from lwspec.engine.states import IN_HAND, State


def due(
    jobs: Iterable[Job],
    found: Mapping[str, State],
    outcomes: Callable[[str], Sequence[str | None]],
    retries: Retries,
) -> set[str]:
    """The jobs, given inputs first, that wait for nobody's word: theirs or their inputs'.

    `outcomes` tells how a job's attempts ended since it was granted.
    """
    going = {job for job, state in found.items() if state in IN_HAND}
    wanted: set[str] = set()
    for job in jobs:
        state = found[job.id]
        if job.id in going or state == State.CANCELLED:
            continue
        tried = state in (State.FAILED, State.INTERRUPTED, State.LOST)
        if tried and not again(outcomes(job.id), retries):
            continue
        if all(source in going or source in wanted for source in job.inputs.values()):
            wanted.add(job.id)
    return wanted
