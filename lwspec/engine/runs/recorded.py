"""What readers rely on in the records of run folders, checked where a record is read.

Records are written by jobs, allocations and earlier commands, and kept for years: a key that is
missing or of another kind is a RunFolderError that names the file, and never a surprise later.
What a record holds beside these keys is left as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lwspec.engine.job import Kind
from lwspec.engine.runs.jsonfile import read_record
from lwspec.errors import RunFolderError

Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""What a database holds in a column."""
Count = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=True)]
FileName = Annotated[str, Field(pattern=r"^[\w][\w.:-]*$")]
FilePath = Annotated[str, Field(pattern=r"^\w[\w.:-]*(/\w[\w.:-]*)*$", max_length=200)]
"""Below the folder of an attempt."""


class Record(BaseModel):
    """A JSON object with at least these keys."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore")


def fitting(record: dict[str, Any], model: type[Record], path: Path) -> dict[str, Any]:
    """The record that a file holds. Raises RunFolderError where it lacks what the model has."""
    try:
        model.model_validate(record)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        raise RunFolderError(f"unreadable: {at}: {first['msg']}", where=str(path)) from None
    return record


def read_fitting(path: Path, model: type[Record], remedy: str) -> dict[str, Any]:
    """Read a record. Raises RunFolderError with the remedy where it is damaged or has changed."""
    try:
        return fitting(read_record(path), model, path)
    except RunFolderError as error:
        error.remedy = remedy
        raise


def to_mend(*folders: Path) -> str:
    """What to do about a damaged file in the folders of jobs."""
    return f"restore the file, or delete {' and '.join(map(str, folders))}, then lwspec submit"


def is_event(event: Any) -> bool:
    """Whether a line of events.jsonl holds what readers rely on; there are millions of them."""
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return False
    if not _is_duration(event.get("device_s", 0.0)):
        return False
    if event["event"] == "progress":
        counted = all(_is_whole(event.get(n)) for n in ("done", "total"))
        return counted and _is_name(event.get("what")) and _is_duration(event.get("time"))
    if event["event"] == "metric":
        values = event.get("values")
        if not isinstance(values, dict) or not _is_whole(event.get("step")):
            return False
        return all(map(_is_name, values)) and all(map(_is_value, values.values()))
    return True


def _is_whole(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_value(value: Any) -> bool:
    return value is None or type(value) is float or _is_whole(value)


def _is_duration(value: Any) -> bool:
    return type(value) in (int, float) and -(2.0**63) < value < 2.0**63


def _is_name(value: Any) -> bool:
    return isinstance(value, str)


class JobRecord(Record):
    """job.json."""

    id: str
    kind: Kind
    step: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    outputs: list[FileName]
    label: str
    reads: dict[str, list[str]]
    places: dict[str, str] = {}
    names: dict[str, str] = {}
    gpus: Count = 0
    threads: Count = 1
    shares: bool = False
    compiled: bool = False
    states_bytes: Integer | None = None
    charge: Count
    allowance_s: Seconds
    granted_at: Seconds = 0.0
    granted_after: Count = 0
    spec: str | None = None
    modelled_s: Seconds | None = None
    cost_version: Integer | None = None
    command: str | None = None


class ProcessRecord(Record):
    """What names a process."""

    pid: Annotated[int, Field(gt=0, lt=2**31)]
    host: str
    start: str | None


class EvidenceRecord(Record):
    """What an attempt says of itself; old ones say less."""

    host: str | None = None
    hardware: str | None = None
    gpu: str | None = None
    git_sha: str | None = None
    dirty: bool | None = None
    command: str | None = None
    process: ProcessRecord | None = None
    side_by_side: Annotated[int, Field(gt=0, lt=2**31)] = 1
    cost_version: Integer | None = None
    source_files: dict[str, str] | None = None
    packages: dict[str, str] = {}


class StartedRecord(Record):
    """started.json."""

    job: str | None = None
    """The job's id, in each record of an attempt; lwspec before 0.3 wrote none."""
    started_at: Seconds
    spec: str | None = None
    charge: Count = 0
    modelled_s: Seconds | None = None
    evidence: EvidenceRecord = EvidenceRecord()


class ExitRecord(Record):
    """exit.json."""

    job: str | None = None
    outcome: str
    message: str | None = None
    ended_at: Seconds
    wall_s: Seconds
    device_s: Seconds
    peak_bytes: Integer | None = None
    files: dict[FilePath, str] = {}


class OutputRecord(Record):
    """A finished output: taken/<output>.json."""

    job: str | None = None
    attempt: Annotated[int, Field(gt=0, lt=2**31)]
    files: dict[FilePath, str]
    metrics: dict[str, Number | None]
    facts: dict[str, Any]
    finished_at: Seconds


class PlannedJob(Record):
    """A job of a plan that was shown or submitted."""

    kind: str
    label: str
    settings: dict[str, Any]
    outputs: list[str]


class PlannedCell(Record):
    """A cell of such a plan."""

    experiment: str
    arm: str
    task: str
    seed: Integer
    point: dict[str, Any]
    fit: str | None
    evaluate: str


class PlanRecord(Record):
    """plans/<spec>.shown.json and .submitted.json."""

    spec: str
    spec_path: str
    digest: str
    source_files: dict[str, str] = {}
    jobs: dict[str, PlannedJob]
    cells: list[PlannedCell]


class LastPlan(Record):
    """plans/last.json."""

    spec: str | None
    """Its name; None where it could not be planned."""
    spec_path: str


class IntendedPack(Record):
    """An element of an array."""

    jobs: list[str]


class IntendedRetries(Record):
    """How often what SLURM killed is tried again."""

    killed: Count


class IntentRecord(Record):
    """submissions/<name>/intent.json."""

    spec: str
    user: str
    intended_at: Seconds
    packs: list[IntendedPack]
    retries: IntendedRetries


class ArrayRecord(Record):
    """submissions/<name>/slurm.json."""

    array_id: str


class EndedRecord(Record):
    """submissions/<name>/<element>.<start>.ended.json."""

    outcome: str
