"""From a spec to cells and jobs: pure, and the same for the same spec, data and weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lwspec.engine.arm import ArmDeclaration, Need, Role
from lwspec.engine.job import Job, make_job
from lwspec.engine.spec import AtMost, Evaluate, Experiment, Frozen, Spec, Task, Train
from lwspec.errors import SpecError

BLOCK_ROWS = 1000
"""Sender states are made in blocks of this many training rows, so that more rows extend them."""

Point = Mapping[str, Any]


@dataclass(frozen=True)
class Located:
    """Where models and data lie and what they hold, looked up before anything is expanded."""

    models: Mapping[str, Mapping[str, Any]]
    """Model name to what identifies its weights."""
    data: Mapping[str, Mapping[str, Any]]
    """Task name to what identifies its rows."""
    model_paths: Mapping[str, str]
    data_paths: Mapping[str, Mapping[str, str]]
    train_rows: Mapping[str, int | None]
    """Task name to how many training rows there are at most, where that is known."""
    test_rows: Mapping[str, int | None]


@dataclass(frozen=True)
class Cell:
    """What a table compares: arm x task x seed x sweep point, and the job that measures it."""

    experiment: str
    arm: str
    task: str
    seed: int
    point: Point
    evaluate: str
    fit: str | None
    seeded: bool


@dataclass(frozen=True)
class Expansion:
    """Everything that a spec asks for: each job once, in an order that respects its inputs."""

    cells: tuple[Cell, ...]
    jobs: Mapping[str, Job]
    experiments: Mapping[str, tuple[str, ...]]
    """Experiment to the ids of the jobs that it needs."""


def expand(spec: Spec, arms: Mapping[str, ArmDeclaration], located: Located) -> Expansion:
    """Expand a spec. Raises SpecError where two sweep points give one job."""
    builder = _Builder(spec, arms, located)
    cells = [cell for experiment in spec.experiment for cell in builder.experiment(experiment)]
    return Expansion(
        tuple(cells),
        builder.jobs,
        {name: tuple(ids) for name, ids in builder.used.items()},
    )


def points(experiment: Experiment) -> Iterator[Point]:
    """Every combination of the swept values, in the order they are written."""
    keys = list(experiment.sweep)
    for values in itertools.product(*experiment.sweep.values()):
        yield dict(zip(keys, values, strict=True))


class _Builder:
    """Collects jobs by id, so that what two cells share is made once."""

    def __init__(self, spec: Spec, arms: Mapping[str, ArmDeclaration], located: Located) -> None:
        self.spec = spec
        self.arms = arms
        self.located = located
        self.jobs: dict[str, Job] = {}
        self.used: dict[str, dict[str, None]] = {}
        self._experiment = ""
        self._names: dict[str, str] = {}

    def experiment(self, experiment: Experiment) -> Iterator[Cell]:
        self._experiment = experiment.name
        self.used[experiment.name] = {}
        for name, task in itertools.product(experiment.arms, experiment.tasks):
            self._names = {
                "task": task,
                "sender": experiment.sender,
                "receiver": experiment.receiver,
            }
            seen: dict[str, Point] = {}
            for point in points(experiment):
                settings, train = _at_point(experiment, self.arms[name], point)
                first = None
                for seed in experiment.seeds:
                    cell = self._cell(
                        experiment, self.arms[name], task, seed, point, settings, train
                    )
                    first = first or cell.evaluate
                    yield cell
                assert first is not None
                if first in seen:
                    raise SpecError(
                        f"experiment {experiment.name!r}: the sweep points {dict(seen[first])} and "
                        f"{dict(point)} give the same jobs for {name} on {task}",
                        remedy="sweep a setting that changes this arm",
                    )
                seen[first] = point

    def _cell(
        self,
        experiment: Experiment,
        arm: ArmDeclaration,
        task: str,
        seed: int,
        point: Point,
        settings: Frozen,
        train: Train,
    ) -> Cell:
        inputs = {"data": self._data(task)}
        for need in arm.needs(settings):
            inputs[need.step] = self._need(need, experiment, task, train)
        places: dict[str, str] = {}
        base: dict[str, Any] = {
            "arm": arm.name,
            "arm_version": arm.version,
            "arm_settings": settings.model_dump(),
            "models": {},
            "task": {"labels": self.spec.tasks[task].labels, **self._reads(arm, task)},
            "threads": self.spec.resources.threads,
        }
        roles: tuple[Role, ...] = arm.models
        for role in roles:
            model = getattr(experiment, role)
            base["models"][role] = self.located.models[model]
            self._add_model(model, role, inputs, places)
        label = f"{arm.name} {task}" + (f" s{seed}" if arm.seeded else "")
        label += "".join(f" {key}={value}" for key, value in point.items())
        fit = None
        if arm.trained:
            fit = self._fit(arm, seed, train, base, inputs, places, label)
            inputs = {**inputs, "fit": fit}
        evaluate = self._evaluate(arm, experiment.evaluate, train, base, inputs, places, label)
        return Cell(experiment.name, arm.name, task, seed, point, evaluate, fit, arm.seeded)

    def _reads(self, arm: ArmDeclaration, task: str) -> dict[str, Any]:
        declared = self.spec.tasks[task]
        return {name: getattr(declared, name) for name in arm.reads}

    def _fit(
        self,
        arm: ArmDeclaration,
        seed: int,
        train: Train,
        base: Mapping[str, Any],
        inputs: Mapping[str, str],
        places: Mapping[str, str],
        label: str,
    ) -> str:
        settings = {**base, "samples": _samples(train)}
        outputs: tuple[str, ...] = ("epoch-001",)
        if arm.epochs:
            settings["train"] = _schedule(train)
            outputs = tuple(f"epoch-{epoch:03d}" for epoch in range(1, train.epochs + 1))
        if arm.seeded:
            settings["seed"] = seed
        return self._add("fit", arm.name, settings, inputs, outputs, label, places, self._gpus())

    def _evaluate(
        self,
        arm: ArmDeclaration,
        evaluate: Evaluate,
        train: Train,
        base: Mapping[str, Any],
        inputs: Mapping[str, str],
        places: Mapping[str, str],
        label: str,
    ) -> str:
        settings = {**base, **evaluate.model_dump(), "split": "test"}
        if arm.trained:
            epochs = train.epochs if arm.epochs else 1
            settings["checkpoint"] = {train.checkpoint if arm.epochs else "last": epochs}
        return self._add(
            "evaluate", arm.name, settings, inputs, ("result",), label, places, self._gpus()
        )

    def _gpus(self) -> int:
        return self.spec.resources.gpus

    def _data(self, task: str) -> str:
        declared = self.spec.tasks[task]
        settings = {
            "data": self.located.data[task],
            "splits": declared.splits.model_dump(),
            "context": declared.context,
            "label": declared.label,
            "labels": declared.labels,
            "sample_seed": declared.sample_seed,
        }
        places = self.located.data_paths[task]
        return self._add("prepare", "data", settings, {}, ("result",), f"data {task}", places, 0)

    def _need(self, need: Need, experiment: Experiment, task: str, train: Train) -> str:
        """A `states` or `text` job: the frozen sender over the rows of one task."""
        declared: Task = self.spec.tasks[task]
        inputs, places = {"data": self._data(task)}, dict[str, str]()
        self._add_model(experiment.sender, "sender", inputs, places)
        settings = {
            "model": self.located.models[experiment.sender],
            "max_prompt_tokens": declared.max_prompt_tokens,
            "threads": self.spec.resources.threads,
            "prompt": declared.sender_prompt,
            **need.settings,
        }
        outputs: tuple[str, ...] = ("test",)
        if need.step == "states":
            outputs = ("validation", "test", *_blocks(train, self.located.train_rows[task]))
        label = f"{need.step} {experiment.sender} {task}"
        return self._add(
            "prepare", need.step, settings, inputs, outputs, label, places, self._gpus()
        )

    def _add_model(
        self, model: str, role: Role, inputs: dict[str, str], places: dict[str, str]
    ) -> None:
        declared = self.spec.models[model]
        if declared.toy is None:
            places[role] = self.located.model_paths[model]
            return
        toy = self.located.models[model]
        settings = {"toy": toy["toy"], "version": toy["version"]}
        inputs[role] = self._add(
            "prepare", "toy", settings, {}, ("result",), f"toy {declared.toy}", {}, 0
        )

    def _add(
        self,
        kind: Any,
        step: str,
        settings: Mapping[str, Any],
        inputs: Mapping[str, str],
        outputs: tuple[str, ...],
        label: str,
        places: Mapping[str, str],
        gpus: int,
    ) -> str:
        job = make_job(
            kind,
            step,
            settings,
            inputs,
            outputs=outputs,
            label=label,
            places=places,
            names=self._names,
            gpus=gpus,
            threads=self.spec.resources.threads,
        )
        known = self.jobs.get(job.id)
        if known is None or len(known.outputs) < len(job.outputs):
            self.jobs[job.id] = job
        self.used[self._experiment][job.id] = None
        return job.id


def _at_point(experiment: Experiment, arm: ArmDeclaration, point: Point) -> tuple[Frozen, Train]:
    """The arm's settings and the training at one sweep point, every default filled in."""
    table, train = dict(experiment.settings.get(arm.name, {})), experiment.train
    for key, value in point.items():
        owner, field = key.split(".", 1)
        if owner == "train":
            train = Train.model_validate({**train.model_dump(exclude_unset=True), field: value})
        elif owner == arm.name:
            table[field] = value
    return arm.settings.model_validate(table), train


def _schedule(train: Train) -> dict[str, Any]:
    """The training settings that can change an epoch's numbers.

    With a constant rate the number of epochs is not among them, so 6 epochs extend to 8.
    """
    settings = train.model_dump(exclude={"samples", "checkpoint", "epochs"})
    if train.schedule == "cosine":
        settings["epochs"] = train.epochs
    return settings


def _samples(train: Train) -> dict[str, int | None]:
    if isinstance(train.samples, AtMost):
        return {"max": train.samples.max}
    return {"exactly": train.samples}


def _blocks(train: Train, available: int | None) -> tuple[str, ...]:
    """Names of the blocks of training rows that hold the samples."""
    wanted = train.samples.max if isinstance(train.samples, AtMost) else train.samples
    known = [rows for rows in (wanted, available) if rows is not None]
    if not known:
        return ("train-all",)
    return tuple(f"train-{block:04d}" for block in range(-(-min(known) // BLOCK_ROWS)))
