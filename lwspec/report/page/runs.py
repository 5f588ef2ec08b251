"""What the page says of each run, and how it is packed: thousands of runs in one file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lwspec.report.content import Content

DIGITS = 5
"""Of a run's metrics on the page; `lwspec why` and the tables' CSV files have them all."""
HASH_DIGITS = 32
"""Of a file's SHA-256 on the page: 128 bits tell files apart, and `lwspec why` has the rest."""


@dataclass(frozen=True)
class Try:
    """One attempt at a job."""

    number: int
    counts: bool
    """Whether an output that it made was taken."""
    outcome: str
    commit: str
    command: str
    hardware: str
    seconds: float
    """Of a device."""
    packages: str


@dataclass(frozen=True)
class Made:
    """One output of a job."""

    name: str
    attempt: int
    metrics: Mapping[str, float]
    files: Mapping[str, str]


@dataclass(frozen=True)
class Run:
    """A job as the page shows it."""

    id: str
    kind: str
    label: str
    seed: str
    state: str
    tries: tuple[Try, ...]
    outputs: tuple[Made, ...]
    inputs: Mapping[str, str]

    @property
    def hours(self) -> float:
        """What all attempts took."""
        return sum(each.seconds for each in self.tries) / 3600


def runs_of(ids: Sequence[str], content: Content) -> list[Run]:
    """The runs of these ids, in their order."""
    tries: dict[str, list[Try]] = {}
    made = {job: set(numbers) for job, numbers in content.evidence.makers.items()}
    for (job, number), row in sorted(content.evidence.attempts.items()):
        tries.setdefault(job, []).append(_try(row, number in made.get(job, ())))
    return [_run(id, tuple(tries.get(id, ())), content) for id in ids]


def _run(id: str, tries: tuple[Try, ...], content: Content) -> Run:
    job = content.plan.expansion.jobs[id]
    return Run(
        id,
        job.kind,
        job.label,
        content.evidence.seeds.get(id, ""),
        content.plan.states[id].value,
        tries,
        tuple(
            Made(out.name, out.attempt, out.metrics, out.files)
            for _, out in sorted(content.results.outputs.get(id, {}).items())
        ),
        job.inputs,
    )


def _try(row: Mapping[str, Any], counts: bool) -> Try:
    evidence: Mapping[str, Any] = row["evidence"] or {}
    packages = evidence.get("packages", {}).items()
    return Try(
        row["number"],
        counts,
        str(row["outcome"] or "no end recorded"),
        f"{row['git_sha'] or 'none'}{' with uncommitted changes' if row['dirty'] else ''}",
        str(row["command"] or "not recorded"),
        f"{row['hardware'] or 'unknown'} on {row['host'] or 'unknown'}",
        float(row["device_s"]),
        " ".join(f"{name} {version}" for name, version in packages),
    )


class _Numbered:
    """Things that many runs share, each once."""

    def __init__(self) -> None:
        self.all: dict[Any, int] = {}

    def __call__(self, thing: Any) -> int:
        return self.all.setdefault(thing, len(self.all))


def packed(runs: Sequence[Run]) -> dict[str, Any]:
    """The runs as lists, read by `unpack` in page.js: shared texts by number, hashes in base 64.

    A shape is an output's name with the names of its metrics and files.
    """
    words, shapes = _Numbered(), _Numbered()
    places = {run.id: place for place, run in enumerate(runs)}
    rows = [
        [
            run.id,
            [words(word) for word in run.label.split(" ")],
            run.seed,
            words(run.state),
            [_packed_try(each, run.id, words) for each in run.tries],
            [_packed_made(each, shapes) for each in run.outputs],
            [part for role, id in run.inputs.items() for part in (words(role), places[id])],
        ]
        for run in runs
    ]
    return {"words": list(words.all), "shapes": list(shapes.all), "runs": rows}


def _packed_try(each: Try, id: str, words: _Numbered) -> list[Any]:
    before, found, after = each.command.partition(id)
    return [
        each.number,
        int(each.counts),
        words(each.outcome),
        words(each.commit),
        words(before),
        words(after) if found else -1,
        words(each.hardware),
        round(each.seconds, 1),
        words(each.packages),
    ]


def _packed_made(made: Made, shapes: _Numbered) -> list[Any]:
    shape = shapes((made.name, tuple(made.metrics), tuple(made.files)))
    values = [rounded(value) for value in made.metrics.values()]
    return [shape, made.attempt, *values, *(_base64(sha) for sha in made.files.values())]


def rounded(value: float) -> float | int:
    """A metric with a few digits, as an integer where it is one."""
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() else short


def _base64(sha256: str) -> str:
    """The beginning of a hash, a third shorter than in hexadecimal digits."""
    return base64.b64encode(bytes.fromhex(sha256[:HASH_DIGITS])).decode().rstrip("=")
