"""What is started again without anybody asking: pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from lwspec.engine.job import Job
from lwspec.engine.states import IN_HAND, State


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
