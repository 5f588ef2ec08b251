"""What every verb opens first: the spec, the run folders, the store, and the plan over them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from lwspec.cli.terminal import printable
from lwspec.engine.executors.slurm.watch import Watched, granted_s, watch
from lwspec.engine.executors.submit import PlanMemory
from lwspec.engine.job import Job
from lwspec.engine.plan.expand import expand
from lwspec.engine.plan.fingerprint import Fingerprints
from lwspec.engine.plan.locate import locate
from lwspec.engine.plan.machines import kept
from lwspec.engine.plan.plan import Plan, make_plan
from lwspec.engine.plan.records import Records, recorded
from lwspec.engine.runs.file_system import may_be_shared, mounts
from lwspec.engine.runs.runfolder import Runs
from lwspec.engine.spec.load import arm_files, load
from lwspec.engine.spec.loaded import LoadedSpec
from lwspec.engine.store.database import Database, named
from lwspec.engine.store.ingest import Problem
from lwspec.engine.store.store import Store
from lwspec.errors import SpecError, UsageError, nearest
from lwspec.kernels.arms import declarations


@dataclass(frozen=True)
class Session:
    """A spec held against what was recorded, at one moment."""

    loaded: LoadedSpec
    runs: Runs
    store: Store
    records: Records
    watched: Watched
    plan: Plan
    memory: PlanMemory
    problems: Sequence[Problem] = ()
    """What ingestion warned of."""


def to_stdout(line: str) -> None:
    """Tell a person at a terminal, or whatever reads a pipe, at once."""
    print(line, flush=True)


def to_stderr(line: str) -> None:
    """The same of what stands beside the answer."""
    print(f"lwspec: {printable(line)}", file=sys.stderr)


def open_session(
    spec: Path | None,
    db: Database,
    runs: Path,
    *,
    rescan: bool = False,
    quiet: bool = False,
    warn: Callable[[str], None] = to_stderr,
) -> Session:
    """Check the spec, ingest what is new, and plan. Writes nothing if the spec is wrong.

    Where no spec is named, the one that was planned last is taken and, unless `quiet`, named.
    `warn` is told of what was gone around.
    """
    folder = Runs(runs)
    memory = PlanMemory(folder)
    path = spec or planned_last(memory)
    if spec is None and not quiet:
        print(f"spec {_shown(path)}, planned last here")
    arms = declarations(arm_files(path))
    loaded = load(path, arms)
    fingerprints = Fingerprints(runs / "cache" / "fingerprints.json")
    located = locate(loaded, fingerprints)
    expansion = expand(loaded, arms, located)
    fingerprints.save()
    store = Store(db, shared=_shared(loaded, db))
    if store.migrated:
        copy = f"what it was: {store.backup}" if store.backup else "no copy of it was kept"
        warn(f"{named(db)} was migrated; {copy}")
    if store.made and folder.listed():
        warn(f"{named(db)} is new: made from {runs}/")
    watched = watch(folder)  # first: what has ended by now has written all that it will
    records, problems = recorded(folder, store, expansion.jobs, rescan)
    for problem in problems:
        warn(str(problem))
    granted = granted_s(folder, watched, loaded.spec.name)
    cancelled = folder.cancelled(records.owed(expansion.jobs))
    benched = kept(folder, loaded.spec.budget.gpu)
    plan = make_plan(
        loaded, expansion, arms, located, records, watched.held, granted, cancelled, benched
    )
    return Session(loaded, folder, store, records, watched, plan, memory, problems)


@contextmanager
def planning(spec: Path | None, runs: Path) -> Iterator[None]:
    """Where the spec is wrong, it is still the one planned last: verbs without one say so again."""
    try:
        yield
    except SpecError:
        if spec is not None:
            PlanMemory(Runs(runs)).remember_failed(spec)
        raise


def _shared(loaded: LoadedSpec, db: Database) -> bool:
    """Whether other machines may see the database's file."""
    if not isinstance(db, Path):
        return False
    clusters = loaded.spec.cluster.values()
    return any(c.shared_runs for c in clusters) or may_be_shared(db, mounts())


@dataclass(frozen=True)
class Project:
    """A spec, and where its records lie."""

    spec: Path | None
    """None of the one that was planned last."""
    db: Database
    runs: Path
    say: Callable[[str], None] = field(default=to_stdout, repr=False, compare=False)
    """Is told how far the work is."""
    warn: Callable[[str], None] = field(default=to_stderr, repr=False, compare=False)
    """Is told what was gone around, and what was asked again."""

    def open(self, *, rescan: bool = False, quiet: bool = True) -> Session:
        """Look at it now: `open_session`."""
        return open_session(
            self.spec, self.db, self.runs, rescan=rescan, quiet=quiet, warn=self.warn
        )


def matching(jobs: Sequence[Job], only: str | None) -> Sequence[Job]:
    """Those jobs whose ids are this, or whose kinds and labels contain it, in their order.

    Raises UsageError where there is none.
    """
    if only is None:
        return jobs
    found = [
        job for job in jobs if job.id == only or fnmatch(f"{job.kind} {job.label}", f"*{only}*")
    ]
    if not found:
        labels = [f"{job.kind} {job.label}" for job in jobs]
        raise UsageError(
            f"no job matches {only!r}",
            nearest=nearest(only, labels) or nearest(only.strip("*"), _parts(labels, only)),
            remedy="lwspec status --json lists them all",
        )
    return found


def _parts(labels: Sequence[str], only: str) -> set[str]:
    """All parts of labels of as many words as there are in what was asked for."""
    many = len(only.split())
    words = [label.split() for label in labels]
    return {" ".join(each[n : n + many]) for each in words for n in range(len(each))}


def planned_last(memory: PlanMemory) -> Path:
    """The spec that was planned last. Raises UsageError where none was."""
    path = memory.last_spec()
    if path is None:
        raise UsageError("no spec is named and none was planned here", remedy="lwspec plan SPEC")
    return path


def _shown(path: Path) -> Path:
    """A path as it is typed from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
