"""Intent on disk: what is written before anything starts, so that nothing rests on memory."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lwspec.engine.executors.child import KERNELS
from lwspec.engine.job import Job
from lwspec.engine.plan import cost
from lwspec.engine.plan.pack import Pack
from lwspec.engine.plan.plan import Plan
from lwspec.engine.runs.checksum import sha256_of
from lwspec.engine.runs.evidence import code_digest, source_files
from lwspec.engine.runs.jsonfile import remember_json, write_json
from lwspec.engine.runs.recorded import LastPlan, PlanRecord, Record, read_fitting
from lwspec.engine.runs.runfolder import Runs

LOCAL, SLURM = "local", "slurm"


def command_of(runs: Runs, jobs: Sequence[Job]) -> list[str]:
    """The command that runs jobs by hand."""
    folders = [str(runs.folder(job.id).path) for job in jobs]
    return [sys.executable, "-m", KERNELS, *folders]


def write_jobs(
    plan: Plan,
    runs: Runs,
    allowance_s: Mapping[str, float],
    executor: str,
    *,
    any_code: bool = False,
) -> None:
    """Write job.json for every job that will run: what grants it its allowance.

    A job refuses to run other code than this process's, but for `any_code`; an arm of the user's
    own is kept as it is now.
    """
    for job in plan.expansion.jobs.values():
        if job.id not in allowance_s:
            continue
        record: dict[str, Any] = {
            **job.to_json(),
            "spec": plan.loaded.spec.name,
            "allowance_s": allowance_s[job.id],
            "granted_at": time.time(),
            "places": job.places if any_code else _with_arm_kept(job, runs),
            "granted_after": runs.folder(job.id).newest(),
            "executor": executor,
            "code": None if any_code else code_digest(),
            "modelled_s": plan.modelled_s[job.id],
            "cost_version": cost.VERSION,
            "command": shlex.join(command_of(runs, [job])),
        }
        runs.folder(job.id).grant(record)


def _with_arm_kept(job: Job, runs: Runs) -> Mapping[str, str]:
    """A job's places, where an arm of the user's own is a copy that nobody edits."""
    if "arm" not in job.places:
        return job.places
    file, sha256 = Path(job.places["arm"]), job.settings["arm_sha256"]
    kept = runs.path.resolve() / "arms" / sha256[:16] / file.name
    if not kept.exists() or sha256_of(kept) != sha256:
        kept.parent.mkdir(parents=True, exist_ok=True)
        scratch = kept.with_name(f".{kept.name}.{os.getpid()}")
        shutil.copyfile(file, scratch)
        scratch.replace(kept)
    return {**job.places, "arm": str(kept)}


def plan_record(plan: Plan) -> dict[str, Any]:
    """What is remembered of a plan that was shown or submitted."""
    return {
        "spec": plan.loaded.spec.name,
        "spec_path": str(plan.loaded.source.path.resolve()),
        "spec_text": plan.loaded.source.text,
        "digest": plan.digest,
        "source_files": source_files(),
        "at": time.time(),
        "jobs": {
            job.id: {
                "kind": job.kind,
                "label": job.label,
                "settings": job.settings,
                "outputs": list(job.outputs),
            }
            for job in plan.expansion.jobs.values()
        },
        "cells": [
            {
                "experiment": cell.experiment,
                "arm": cell.arm,
                "task": cell.task,
                "seed": cell.seed,
                "point": dict(cell.point),
                "fit": cell.fit,
                "evaluate": cell.evaluate,
            }
            for cell in plan.expansion.cells
        ],
    }


class PlanMemory:
    """Which plan was shown last, and which was submitted last, for each spec."""

    def __init__(self, runs: Runs) -> None:
        self._folder = runs.path / "plans"
        self._project = runs.path.absolute().parent.resolve()

    def remember_shown(self, plan: Plan) -> None:
        """The plan that `submit` will be held to."""
        shown = self._folder / f"{plan.loaded.spec.name}.shown.json"
        remember_json(shown, plan_record(plan), indent=None)
        self._remember_last(plan.loaded.spec.name, plan.loaded.source.path)

    def remember_failed(self, spec: Path) -> None:
        """A spec that could not be planned: no earlier one is taken in its place."""
        if spec.is_file() and (self._folder / "last.json").exists():
            self._remember_last(None, spec)

    def remember_submitted(self, plan: Plan) -> None:
        """The plan that later ones are compared with."""
        submitted = self._folder / f"{plan.loaded.spec.name}.submitted.json"
        write_json(submitted, plan_record(plan), indent=None)

    def shown(self, spec: str) -> dict[str, Any] | None:
        """The plan of this spec that was shown last."""
        return self._read(f"{spec}.shown.json", PlanRecord)

    def submitted(self, spec: str) -> dict[str, Any] | None:
        """The plan of this spec that was submitted last."""
        return self._read(f"{spec}.submitted.json", PlanRecord)

    def last_spec(self) -> Path | None:
        """The spec that was planned last here."""
        last = self._read("last.json", LastPlan)
        return self._project / last["spec_path"] if last else None

    def shown_last(self) -> dict[str, Any] | None:
        """The plan that was shown last here, of whichever spec."""
        last = self._read("last.json", LastPlan)
        return self.shown(last["spec"]) if last and last["spec"] else None

    def _remember_last(self, name: str | None, path: Path) -> None:
        remember_json(self._folder / "last.json", {"spec": name, "spec_path": self._named(path)})

    def _named(self, spec: Path) -> str:
        """A spec by its path from the folder of `runs/`, so that a copy of that has its own."""
        spec = spec.resolve()
        inside = spec.is_relative_to(self._project)
        return str(spec.relative_to(self._project) if inside else spec)

    def _read(self, name: str, model: type[Record]) -> dict[str, Any] | None:
        path = self._folder / name
        remedy = "lwspec plan SPEC writes it anew"
        return read_fitting(path, model, remedy) if path.exists() else None


def write_allocation(runs: Runs, pack: Pack, where: str) -> Path:
    """The intent to run a pack, on disk before its process starts."""
    folder = runs.path / "packs" / pack.id
    number = len(list(folder.glob(f"allocation-{where}-*.json"))) + 1
    path = folder / f"allocation-{where}-{number}.json"
    write_json(
        path,
        {
            "jobs": [job.id for job in pack.jobs],
            "command": shlex.join(command_of(runs, pack.jobs)),
            "intended_at": time.time(),
        },
    )
    return path
