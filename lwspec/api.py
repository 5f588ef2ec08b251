"""The command line from Python: each function does what the verb of its name does; `report` is
`write_report`, since the package of that name is lwspec's own.

`load` checks a spec and says where its records lie; every other function takes what it returns, and
reads the spec and the records anew. Errors that a user can cause or mend are LwspecError. Nothing
is printed; what was gone around (a damaged record, a migrated database) is a Python warning. A job
that failed is no error: `submit` returns the status, which names it.
"""

from __future__ import annotations

import json
import warnings
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lwspec.cli.arguments import database
from lwspec.cli.session import Project as Project
from lwspec.cli.session import Session, planned_last, planning
from lwspec.engine.executors.submit import PlanMemory
from lwspec.engine.modes import keep_the_world_out
from lwspec.engine.redact import read_redacted
from lwspec.engine.runs.runfolder import Runs
from lwspec.errors import UsageError

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.console import Console

    from lwspec.cli.submit import Agree
    from lwspec.engine.plan.plan import Change

Executor = Literal["local", "slurm"]
Progress = Callable[[str], object]
"""Is given a line, as `print` is, whenever there is something new to say."""


def load(
    spec: str | Path | None = None, *, db: str | Path = "results.db", runs: str | Path = "runs"
) -> Project:
    """Check a spec, or the one that was planned last here. Raises SpecError where it is wrong.

    `db` and `runs` are where its records lie, or will: they need not exist.
    """
    from lwspec.engine.spec import load as engine
    from lwspec.kernels.arms import declarations

    keep_the_world_out()
    last = PlanMemory(Runs(Path(runs)))
    path = (planned_last(last) if spec is None else Path(spec)).absolute()
    engine.load(path, declarations(engine.arm_files(path)))
    try:
        named = database(str(db))
    except ArgumentTypeError as error:
        raise UsageError(f"db: {error}") from None
    place = named.absolute() if isinstance(named, Path) else named
    return Project(path, place, Path(runs).absolute(), say=lambda line: None, warn=_warn)


@dataclass(frozen=True, repr=False)
class Plan:
    """What a spec asks for, what of it is done, and what the rest costs. `str` is what is shown."""

    experiments: DataFrame
    """One row an experiment: jobs, those to run, hours at the median and the 90th percentile."""
    jobs: DataFrame
    """One row a job: its state, the outputs that it owes, and its price."""
    budget_hours: float
    spent_hours: float
    left_hours: float
    """Of the budget, before what is to run."""
    p50_hours: float
    """What is to run should cost."""
    p90_hours: float
    """What is reserved for it."""
    over_budget: bool
    change: Change | None
    """Since the last submit; None where there was none."""
    json: Mapping[str, Any]
    """What `lwspec plan --json` prints."""
    text: str

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


def plan(project: Project) -> Plan:
    """Expand and price a spec, and note it as shown: `submit` runs this plan and no other."""
    from lwspec.cli.plan import change_since_submit, over_budget, plan_json, show_plan

    with planning(project.spec, project.runs):
        session = project.open()
    change = change_since_submit(session)
    said, made = _plain(plan_json(session, change)), session.plan
    text = _text(lambda console: show_plan(session, change, console))
    session.memory.remember_shown(made)
    rows = [{**job, **job.get("price", {})} for job in said["jobs"]]
    return Plan(
        _frame(said["experiments"]),
        _frame(rows).drop(columns="price", errors="ignore"),
        made.loaded.spec.budget.gpu_hours,
        made.spent_hours,
        made.left_hours,
        made.p50_hours,
        made.p90_hours,
        over_budget(made),
        change,
        said,
        text,
    )


@dataclass(frozen=True, repr=False)
class Status:
    """Every job's state, and what was spent. `str` is what is shown."""

    jobs: DataFrame
    """One row a job: its state, and the outcome and message of its newest attempt."""
    counts: Mapping[str, int]
    """Jobs by state."""
    failed: tuple[str, ...]
    """Kinds and labels of the jobs that failed."""
    spent_hours: float
    reserved_hours: float
    free_hours: float
    """Of the budget: neither spent nor reserved."""
    json: Mapping[str, Any]
    """What `lwspec status --json` prints."""
    text: str

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


def status(project: Project, *, rescan: bool = False) -> Status:
    """Look at every job; with `rescan` at finished ones again, as after a change by hand."""
    from lwspec.cli.status import show
    from lwspec.cli.told import as_json

    session = project.open(rescan=rescan)
    said, made = _plain(as_json(session)), session.plan
    jobs = [_tried(job) for job in said["jobs"]]
    return Status(
        _frame(jobs),
        dict(Counter(job["state"] for job in jobs)),
        tuple(f"{job['kind']} {job['label']}" for job in jobs if job["state"] == "failed"),
        made.spent_hours,
        made.reserved_hours,
        made.free_hours,
        said,
        _text(lambda console: show(session, console)),
    )


def submit(
    project: Project,
    *,
    only: str | None = None,
    yes: bool = False,
    executor: Executor | None = None,
    cluster: str | None = None,
    snapshot: bool = True,
    wait: bool = True,
    progress: Progress | None = None,
) -> Status:
    """Run what the plan lacks, here or on SLURM, and return the status after it.

    `only` is a pattern of labels. Where spec or code have changed since the plan was shown, raises
    UsageError that says how, unless `yes`. Raises BudgetError where it would cost more than is
    left. It returns when all has ended, but on SLURM where `wait` is false. Ctrl-C stops jobs here
    at a checkpoint. With `snapshot` false, jobs run the code that is there when they start.
    """
    from lwspec.cli.agree import agree

    return _start(project, agree, only, yes, executor, cluster, snapshot, wait, progress)


def retry(
    project: Project,
    *,
    only: str | None = None,
    yes: bool = False,
    executor: Executor | None = None,
    cluster: str | None = None,
    snapshot: bool = True,
    wait: bool = True,
    progress: Progress | None = None,
) -> Status:
    """Start what failed, was lost or was cancelled, with what it needs; as `submit` does."""
    from lwspec.cli.agree import agree_again

    return _start(project, agree_again, only, yes, executor, cluster, snapshot, wait, progress)


def _start(
    project: Project,
    agree: Agree,
    only: str | None,
    yes: bool,
    executor: Executor | None,
    cluster: str | None,
    snapshot: bool,
    wait: bool,
    progress: Progress | None,
) -> Status:
    from lwspec.cli.progress import in_lines
    from lwspec.cli.submit import INTERRUPTED, on_slurm, submit_here

    def say(line: str) -> None:
        if progress is not None:
            progress(line)

    def agreed(session: Session) -> set[str]:
        return agree(session, only, lambda session: _hold(session, yes))

    telling = replace(project, say=say)
    if on_slurm(executor, cluster):
        from lwspec.cli.slurm import Sending, submit_to_slurm

        submit_to_slurm(telling, Sending(cluster, snapshot, wait), agreed)
    elif (
        submit_here(telling, agreed, partial(in_lines, say=say), any_code=not snapshot)
        == INTERRUPTED
    ):
        raise KeyboardInterrupt
    return status(project)


def _hold(session: Session, agreed: bool) -> None:
    """Refuse a plan that is not the one that was shown, where one was."""
    from lwspec.cli.agree import since_shown

    differs = since_shown(session)
    if differs and not agreed:
        raise UsageError(
            "\n  ".join(["the plan has changed since it was shown:", *differs]),
            remedy="lwspec.plan shows it, then submit again; or yes=True to agree beforehand",
        )
    session.memory.remember_shown(session.plan)


def cancel(project: Project, *, only: str | None = None) -> list[str]:
    """Take jobs back, of those that match; what was taken back. `retry` or `submit` starts them."""
    from lwspec.cli.cancel import take_back

    return [f"{job.kind} {job.label}" for job in take_back(project.open(), only)]


@dataclass(frozen=True)
class Report:
    """What a report wrote, and what the records could not fill."""

    paths: tuple[Path, ...]
    pdf: Path | None
    """None where LaTeX is not installed, or the spec has no paper."""
    claims: Mapping[str, str]
    """Claim to its verdict."""
    gaps: tuple[str, ...]


def write_report(
    project: Project,
    paper: str | Path | None = "paper",
    *,
    html: str | Path | None = None,
    strict: bool = False,
    rescan: bool = False,
) -> Report:
    """Write tables, figures and the paper below a folder, a page, or both, as `lwspec report` does.

    Raises ReportError where nothing has run, where the paper says what the records do not bear out,
    where a file has changed, and, if `strict`, where there are gaps.
    """
    from lwspec.cli.report import check_complete, render
    from lwspec.report.page.write import check_path

    page = None if html is None else Path(html)
    if page is not None:
        check_path(page)
    made = render(project.open(rescan=rescan), None if paper is None else Path(paper), page)
    if strict:
        check_complete(made.content)
    written = () if made.paper is None else made.paper.paths
    return Report(
        (*written, *filter(None, [made.pdf, made.page])),
        made.pdf,
        {judged.claim.name: judged.verdict.value for judged in made.content.claims},
        tuple(made.content.gaps),
    )


def results(project: Project) -> DataFrame:
    """One row for each measurement that the spec asks for: settings, metrics, and what is behind.

    Those that have not finished have no metrics. Raises ReportError where a file has changed.
    """
    return _whole(project, "results")


def runs(project: Project) -> DataFrame:
    """One row for each attempt at a job: how it ended, when, where, from which code, its cost."""
    return _whole(project, "runs")


def points(project: Project) -> DataFrame:
    """One row for each metric that a job reported at a step, such as its loss."""
    return _whole(project, "points")


def estimates(project: Project) -> DataFrame:
    """One row for each arm, task, sweep point and metric: the mean over seeds, its interval."""
    return _whole(project, "estimates")


def export(
    project: Project, to: str | Path = "export", *, format: str = "csv", intervals: bool = False
) -> list[Path]:
    """Write the records below a folder, as csv, parquet or jsonl, or for mlflow or wandb."""
    from lwspec.cli.export import export

    return export(project.open(), Path(to), format, intervals=intervals)


def why(project: Project, ref: str) -> dict[str, Any]:
    """The chain from a table entry, macro, claim or job to what made it: `lwspec why --json`."""
    from lwspec.cli.report import read_content
    from lwspec.report.why import explain

    session = project.open()
    return dict(_plain(explain(ref, read_content(session), session.runs.path)))


def logs(project: Project, ref: str) -> dict[Path, str]:
    """What the jobs that match printed in their newest attempts, by the file that holds it."""
    from lwspec.cli.logs import log_paths
    from lwspec.cli.session import matching

    session = project.open()
    jobs = matching(list(session.plan.expansion.jobs.values()), ref)
    paths = [path for job in jobs for path in log_paths(session, job.id)]
    return {path: read_redacted(path) for path in paths}


def _whole(project: Project, name: str) -> DataFrame:
    """A table as a data frame that tells what is missing from what is 0."""
    import pandas
    import pyarrow

    from lwspec.cli.export import read_all
    from lwspec.report.export.tables import TABLES

    records = read_all(project.open())
    types = {pyarrow.int64(): pandas.Int64Dtype(), pyarrow.bool_(): pandas.BooleanDtype()}
    whole = TABLES[name](records).whole()
    records.numbers.save()
    return whole.to_pandas(types_mapper=types.get)


def _plain(said: Mapping[str, Any]) -> Any:
    """The same of JSON's own types."""
    return json.loads(json.dumps(said))


def _frame(rows: Sequence[Mapping[str, Any]]) -> DataFrame:
    import pandas

    return pandas.DataFrame(rows)


def _tried(job: Mapping[str, Any]) -> dict[str, Any]:
    """A job of a status with its newest attempt in columns."""
    last: Mapping[str, Any] = job["attempts"][-1] if job["attempts"] else {}
    row = {key: job[key] for key in ("id", "kind", "label", "state")}
    ended = {key: last.get(key) for key in ("outcome", "message")}
    return {**row, "attempts": len(job["attempts"]), **ended}


def _text(show: Callable[[Console], None]) -> str:
    """What is shown on a console, as plain text."""
    from rich.console import Console

    text = StringIO()
    show(Console(file=text, width=200, highlight=False, soft_wrap=True, force_jupyter=False))
    return text.getvalue().rstrip()


def _warn(line: str) -> None:
    warnings.warn(line, stacklevel=2)
