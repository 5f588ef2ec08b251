"""From a spec to cells and jobs: pure, and the same for the same spec, data and weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lwspec.engine.arm import ArmDeclaration, Need, Role
from lwspec.engine.job import BLOCK_ROWS, Job, Kind, identity
from lwspec.engine.load import LoadedSpec
from lwspec.engine.spec import AtMost, Classification, Experiment, Frozen, Task, Train

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
    depths: Mapping[str, int | None]
    """Model name to how many layers it has, where that is known."""


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


def expand(loaded: LoadedSpec, arms: Mapping[str, ArmDeclaration], located: Located) -> Expansion:
    """Expand a spec. Raises SpecError where two sweep points give one job."""
    builder = _Builder(loaded, arms, located)
    cells = [cell for index in range(len(loaded.spec.experiment)) for cell in builder.cells(index)]
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


@dataclass(frozen=True)
class _Block:
    """One arm on one task at one sweep point: everything about its cells but the seed."""

    experiment: Experiment
    arm: ArmDeclaration
    task: str
    point: Point
    settings: Frozen
    train: Train

    @property
    def label(self) -> str:
        swept = "".join(f" {key}={value}" for key, value in self.point.items())
        return f"{self.arm.name} {self.task}{swept}"


class _Builder:
    """Collects jobs by id, so that what two cells share is made once."""

    def __init__(
        self, loaded: LoadedSpec, arms: Mapping[str, ArmDeclaration], located: Located
    ) -> None:
        self.loaded = loaded
        self.spec = loaded.spec
        self.arms = arms
        self.located = located
        self.jobs: dict[str, Job] = {}
        self.used: dict[str, dict[str, None]] = {}

    def cells(self, index: int) -> Iterator[Cell]:
        """The cells of one experiment."""
        experiment = self.spec.experiment[index]
        self.used[experiment.name] = {}
        for name, task in itertools.product(experiment.arms, experiment.tasks):
            seen: dict[str, Point] = {}
            for point in points(experiment):
                arm = self.arms[name]
                block = _Block(experiment, arm, task, point, *_at_point(experiment, arm, point))
                cells = self._block(block)
                if cells[0].evaluate in seen:
                    self.loaded.fail(
                        ("experiment", index, "sweep"),
                        f"the points {dict(seen[cells[0].evaluate])} and {dict(point)} give the "
                        f"same jobs for {name} on {task}",
                        to_do="sweep a setting that changes this arm",
                    )
                seen[cells[0].evaluate] = point
                yield from cells

    def _block(self, block: _Block) -> list[Cell]:
        """The cells of every seed; an arm without a seed has one job for all of them."""
        inputs = {"data": self._data(block)}
        for need in block.arm.needs(block.settings):
            inputs[need.step] = self._need(need, block)
        places: dict[str, str] = {}
        models: dict[str, Mapping[str, Any]] = {}
        for role in block.arm.models:
            models[role] = self.located.models[getattr(block.experiment, role)]
            self._add_model(role, block, inputs, places)
        declared = self.spec.tasks[block.task]
        settings: dict[str, Any] = {
            "arm": block.arm.name,
            "arm_version": block.arm.version,
            "arm_settings": block.settings.model_dump(),
            "models": models,
            "task": {
                **_answers(declared),
                **{name: getattr(declared, name) for name in block.arm.reads},
            },
            **self._machine(),
        }
        seeds: Sequence[int | None] = block.experiment.seeds if block.arm.seeded else [None]
        made = {seed: self._run(block, seed, settings, inputs, places) for seed in seeds}
        cells = []
        for seed in block.experiment.seeds:
            fit, evaluate = made[seed if block.arm.seeded else None]
            names = (block.experiment.name, block.arm.name, block.task)
            cells.append(Cell(*names, seed, block.point, evaluate, fit, block.arm.seeded))
        return cells

    def _run(
        self,
        block: _Block,
        seed: int | None,
        settings: Mapping[str, Any],
        inputs: Mapping[str, str],
        places: Mapping[str, str],
    ) -> tuple[str | None, str]:
        """The fit, where the arm is trained, and the evaluation."""
        arm, train = block.arm, block.train
        label = block.label + ("" if seed is None else f" s{seed}")
        measure = {**settings, **_scoring(arm, block.experiment), "split": "test"}
        reads: dict[str, tuple[str, ...]] = {"data": ("result",), "states": ("test",)}
        reads |= {"text": ("test",), "sender": ("result",), "receiver": ("result",)}
        fit = None
        if arm.trained:
            learn = {**settings, "samples": _samples(train)}
            epochs = train.epochs if arm.epochs else 1
            if arm.epochs:
                learn["train"] = _schedule(train)
            if seed is not None:
                learn["seed"] = seed
            outputs = tuple(f"epoch-{epoch:03d}" for epoch in range(1, epochs + 1))
            states = ("validation", *_blocks(train, self.located.train_rows[block.task]))
            learnt_from = {**reads, "states": states}
            fit = self._add(
                block, "fit", arm.name, learn, inputs, learnt_from, outputs, label, places
            )
            inputs = {**inputs, "fit": fit}
            which = train.checkpoint if arm.epochs else "last"
            measure["checkpoint"] = {which: epochs}
            reads["fit"] = outputs if which == "best" else outputs[-1:]
        evaluate = self._add(
            block, "evaluate", arm.name, measure, inputs, reads, ("result",), label, places
        )
        return fit, evaluate

    def _machine(self) -> dict[str, Any]:
        """What of the machine can change numbers."""
        device = "gpu" if self.spec.resources.gpus else "cpu"
        return {"device": device, "threads": self.spec.resources.threads}

    def _data(self, block: _Block) -> str:
        declared = self.spec.tasks[block.task]
        settings = {
            "data": self.located.data[block.task],
            "splits": declared.splits.model_dump(),
            "context": declared.context,
            **_wanted(declared),
            "sample_seed": declared.sample_seed,
        }
        places = self.located.data_paths[block.task]
        label = f"data {block.task}"
        return self._add(block, "prepare", "data", settings, {}, {}, ("result",), label, places)

    def _need(self, need: Need, block: _Block) -> str:
        """A `states` or `text` job: the frozen sender over the rows of one task."""
        declared, sender = self.spec.tasks[block.task], block.experiment.sender
        layer, depth = need.settings.get("layer", 0), self.located.depths[sender]
        if depth is not None and layer > depth:
            index = self.spec.experiment.index(block.experiment)
            self.loaded.fail(
                ("experiment", index, block.arm.name, "layer"),
                f"layer {layer} is asked for; the sender {sender!r} has {depth}",
                to_do=f"set layer to at most {depth}",
            )
        inputs, places = {"data": self._data(block)}, dict[str, str]()
        self._add_model("sender", block, inputs, places)
        settings = {
            "model": self.located.models[sender],
            "max_prompt_tokens": declared.max_prompt_tokens,
            **self._machine(),
            "prompt": declared.sender_prompt,
            **need.settings,
        }
        outputs: tuple[str, ...] = ("test",)
        if need.step == "states":
            available = self.located.train_rows[block.task]
            outputs = ("validation", "test", *_blocks(block.train, available))
        reads = {role: ("result",) for role in inputs}
        label = f"{need.step} {sender} {block.task}" + (f" layer={layer}" if layer else "")
        return self._add(
            block, "prepare", need.step, settings, inputs, reads, outputs, label, places
        )

    def _add_model(
        self, role: Role, block: _Block, inputs: dict[str, str], places: dict[str, str]
    ) -> None:
        """Where a role's model comes from: a folder or hub id, or the job that trains the toy."""
        model = getattr(block.experiment, role)
        toy = self.spec.models[model].toy
        if toy is None:
            places[role] = self.located.model_paths[model]
            return
        settings = {
            "toy": toy,
            "version": self.located.models[model]["version"],
            "threads": self.spec.resources.threads,
        }
        inputs[role] = self._add(
            block, "prepare", "toy", settings, {}, {}, ("result",), f"toy {toy}", {}
        )

    def _add(
        self,
        block: _Block,
        kind: Kind,
        step: str,
        settings: Mapping[str, Any],
        inputs: Mapping[str, str],
        reads: Mapping[str, tuple[str, ...]],
        outputs: tuple[str, ...],
        label: str,
        places: Mapping[str, str],
    ) -> str:
        """Keep a job; where two cells ask for other outputs of it, it owes them all."""
        job_id = identity(kind, step, settings, inputs)
        known = self.jobs.get(job_id)
        if known is not None:
            outputs = tuple(dict.fromkeys([*known.outputs, *outputs]))
        job = Job(
            job_id,
            kind,
            step,
            settings,
            inputs,
            outputs,
            label,
            {role: reads[role] for role in inputs},
            places,
            {
                "task": block.task,
                "sender": block.experiment.sender,
                "receiver": block.experiment.receiver,
            },
            0 if step in ("data", "toy") else self.spec.resources.gpus,
            self.spec.resources.threads,
        )
        if known is None or len(known.outputs) < len(outputs):
            self.jobs[job.id] = job
        self.used[block.experiment.name][job.id] = None
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


def _answers(task: Task) -> dict[str, Any]:
    """What a job must know of a task's answers, whatever the arm."""
    if isinstance(task, Classification):
        return {"kind": task.kind, "labels": task.labels}
    return {"kind": task.kind, "max_new_tokens": task.max_new_tokens}


def _wanted(task: Task) -> dict[str, Any]:
    """Where a row holds what should be answered."""
    if isinstance(task, Classification):
        return {"kind": task.kind, "label": task.label, "labels": task.labels}
    return {"kind": task.kind, "target": task.target}


def _scoring(arm: ArmDeclaration, experiment: Experiment) -> dict[str, Any]:
    """The evaluation's settings that can change this arm's numbers."""
    settings = experiment.evaluate.model_dump()
    if not arm.soft:
        del settings["precision"]
    if not arm.models:
        del settings["batch_size"]
    return settings


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
