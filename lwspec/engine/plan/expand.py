"""From a spec to cells and jobs: pure, and the same for the same spec, data and weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lwspec.engine.arm import ArmDeclaration, Need, Role
from lwspec.engine.job import OTHER_TASKS, Job, canonical, role_of
from lwspec.engine.plan.jobs import Jobs
from lwspec.engine.plan.locate import Located
from lwspec.engine.plan.refuse import refuse, refuse_twice
from lwspec.engine.spec.controls import CONTROL, of_sender, replaces_message, sender_prompt
from lwspec.engine.spec.loaded import LoadedSpec
from lwspec.engine.spec.resolve import (
    READS,
    Block,
    Point,
    at_point,
    blocks,
    learnt,
    measured_points,
    read_of,
    samples,
    schedule,
    scoring,
    trained_on,
    wanted,
)


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
    experiments: Mapping[str, Mapping[str, tuple[str, ...]]]
    """Experiment to the jobs that it needs, each with the outputs that it asks of it."""
    to_run: frozenset[str]
    """Jobs that more than plan-only experiments need."""


def expand(loaded: LoadedSpec, arms: Mapping[str, ArmDeclaration], located: Located) -> Expansion:
    """Expand a spec. Raises SpecError where two sweep points give one job."""
    builder = _Builder(loaded, arms, located)
    cells = [cell for index in range(len(loaded.spec.experiment)) for cell in builder.cells(index)]
    jobs = builder.jobs
    return Expansion(tuple(cells), jobs.by_id, jobs.asked, frozenset(jobs.to_run))


class _Builder:
    """Makes cells, and the jobs behind them."""

    def __init__(
        self, loaded: LoadedSpec, arms: Mapping[str, ArmDeclaration], located: Located
    ) -> None:
        self.loaded = loaded
        self.spec = loaded.spec
        self.arms = arms
        self.located = located
        self.jobs = Jobs(loaded.spec)
        self.shared: dict[str, tuple[dict[str, str], dict[str, str]]] = {}

    def cells(self, index: int) -> Iterator[Cell]:
        """The cells of one experiment."""
        experiment = self.spec.experiment[index]
        for name, task in itertools.product(experiment.arms, experiment.tasks):
            seen: dict[str, Point] = {}
            arm = self.arms[name]
            for point in measured_points(experiment, arm):
                resolved = at_point(experiment, arm, point)
                block = Block(
                    experiment, arm, task, point, resolved, trained_on(experiment, arm, task)
                )
                cells = self._block(block)
                if cells[0].evaluate in seen:
                    refuse_twice(block, seen[cells[0].evaluate], self.loaded)
                seen[cells[0].evaluate] = point
                yield from cells

    def _block(self, block: Block) -> list[Cell]:
        """The cells of every seed; an arm without a seed has one job for all of them."""
        refuse(block, self.loaded, self.located)
        self.shared = {}
        seeded = block.arm.seeded
        seeds: Sequence[int | None] = block.experiment.seeds if seeded else [None]
        measure = self._score if block.resolved.latency is None else self._time
        made = {seed: measure(block, seed) for seed in seeds}
        names = (block.experiment.name, block.arm.name, block.task)
        return [
            Cell(*names, seed, block.point, evaluate, fit, seeded)
            for seed in block.experiment.seeds
            for fit, evaluate in [made[seed if seeded else None]]
        ]

    def _score(self, block: Block, seed: int | None) -> tuple[str | None, str]:
        """The fit, where the arm is trained, and the evaluation on the test split."""
        inputs, places = self._inputs(block)
        settings = {
            **self._settings(block, block.arm.models),
            **scoring(block.arm, block.experiment),
            "split": "test",
        }
        if replaces_message(block.point):
            settings[CONTROL] = block.control
        reads = dict(READS)
        fit = self._fit(block, seed) if block.arm.trained else None
        if fit is not None:
            inputs["fit"] = fit
            settings["checkpoint"], reads["fit"] = block.tested()
        evaluate = self.jobs.add(
            block,
            "evaluate",
            block.arm.name,
            settings,
            inputs,
            reads,
            ("result",),
            block.label(seed),
            places,
        )
        return fit, evaluate

    def _time(self, block: Block, seed: int | None) -> tuple[str | None, str]:
        """The fit, unless it is timed untrained, and the timing, which runs both models itself."""
        latency = block.resolved.latency
        assert latency is not None
        inputs, places = {"data": self._data(block)}, _place_of(block.arm)
        needs = [
            self._with_prompt(need, block) for need in block.arm.needs(block.resolved.settings)
        ]
        senders: tuple[Role, ...] = ("sender",) if needs else ()
        roles = tuple(dict.fromkeys((*block.arm.models, *senders)))
        for role in roles:
            self._add_model(role, block, inputs, places)
        settings = {
            **self._settings(block, roles),
            "needs": needs,
            "latency": latency.model_dump(exclude={"trained"}),
            "gpus": self.spec.resources.gpus,
            "unit": self.spec.budget.gpu,
        }
        if block.arm.soft:
            settings["precision"] = block.experiment.evaluate.precision
        reads, fit = dict(READS), None
        if block.arm.trained and latency.trained:
            fit = self._fit(block, seed)
            inputs["fit"] = fit
            settings["checkpoint"], reads["fit"] = block.tested()
        elif seed is not None:
            settings["seed"] = seed
        evaluate = self.jobs.add(
            block,
            "latency",
            block.arm.name,
            settings,
            inputs,
            reads,
            ("result",),
            block.label(seed),
            places,
        )
        return fit, evaluate

    def _fit(self, block: Block, seed: int | None) -> str:
        """Training over the rows of one task or several, with an output for each epoch."""
        arm, train = block.arm, block.resolved.train
        (first, known), *others = parts = self._parts(block)
        learn = {**self._settings(first, arm.models), **known, "samples": samples(train)}
        if others:
            learn[OTHER_TASKS] = [known for _, known in others]
        if arm.epochs:
            learn["train"] = schedule(train)
        if seed is not None:
            learn["seed"] = seed
        if block.control == "permuted_labels":
            learn["permuted_labels"] = True
        inputs, reads, places = dict[str, str](), dict(READS), dict[str, str]()
        for number, (part, _) in enumerate(parts):
            made, lie = self._inputs(part)
            roles = {role: role if role in arm.models else role_of(role, number) for role in made}
            inputs |= {roles[role]: source for role, source in made.items()}
            rows = ("validation", *blocks(train, self.located.train_rows[part.task]))
            of_part = {**READS, "states": rows, "pooled": rows}
            reads |= {name: of_part[role] for role, name in roles.items()}
            places |= lie
        return self.jobs.add(
            first,
            "fit",
            arm.name,
            learn,
            inputs,
            reads,
            block.epochs,
            block.label(seed, block.trained_on),
            places,
            [part.task for part, _ in others],
        )

    def _parts(self, block: Block) -> list[tuple[Block, dict[str, Any]]]:
        """A block for each task that a fit is over, with what the fit must know of the task.

        They are ordered by what they are, so that a fit hangs neither on names nor on their order.
        """
        parts = []
        for task in block.trained_on:
            part = replace(block, task=task)
            parts.append((part, learnt(self.spec.tasks[task], part)))
        return sorted(parts, key=lambda part: canonical([self._inputs(part[0])[0], part[1]]))

    def _inputs(self, block: Block) -> tuple[dict[str, str], dict[str, str]]:
        """Jobs whose outputs the arm's jobs read, and where the models lie that they load."""
        if block.task not in self.shared:  # all seeds of a block share them
            self.shared[block.task] = self._make_inputs(block)
        inputs, places = self.shared[block.task]
        return dict(inputs), dict(places)

    def _make_inputs(self, block: Block) -> tuple[dict[str, str], dict[str, str]]:
        inputs, places = {"data": self._data(block)}, dict[str, str]()
        for need in block.arm.needs(block.resolved.settings):
            inputs[need.step] = self._need(need, block)
        for role in block.arm.models:
            self._add_model(role, block, inputs, places)
        return inputs, {**places, **_place_of(block.arm)}

    def _settings(self, block: Block, roles: Sequence[Role]) -> dict[str, Any]:
        """What an arm's jobs share: the arm, the models run, and what it reads of the task."""
        return {
            "arm": block.arm.name,
            "arm_version": block.arm.version,
            **({"arm_sha256": block.arm.sha256} if block.arm.sha256 else {}),
            "arm_settings": block.resolved.settings.model_dump(),
            "models": {role: self._model(role, block) for role in roles},
            "task": read_of(self.spec.tasks[block.task], block),
            **self._machine(bool(roles)),
        }

    def _machine(self, runs_a_model: bool = True) -> dict[str, Any]:
        """What of the machine can change numbers; what runs no model stays on the CPU."""
        gpu = runs_a_model and self.spec.resources.gpus
        return {"device": "gpu" if gpu else "cpu", "threads": self.spec.resources.threads}

    def _data(self, block: Block) -> str:
        declared = self.spec.tasks[block.task]
        settings = {
            "data": self.located.data[block.task],
            "splits": declared.splits.model_dump(),
            "context": declared.context,
            "max_context_chars": declared.max_context_chars,
            "columns": declared.columns,
            **wanted(declared),
            "sample_seed": declared.sample_seed,
        }
        places = self.located.data_paths[block.task]
        label = f"data {block.task}"
        return self.jobs.add(block, "prepare", "data", settings, {}, {}, ("result",), label, places)

    def _need(self, need: Need, block: Block) -> str:
        """The frozen sender over the rows of one task."""
        sender = block.model("sender")
        inputs, places = {"data": self._data(block)}, dict[str, str]()
        self._add_model("sender", block, inputs, places)
        settings = {
            "model": self._model("sender", block),
            **self._machine(),
            **self._with_prompt(need, block)["settings"],
        }
        outputs: tuple[str, ...] = ("test",)
        if need.step != "text" and block.task in block.trained_on:
            tested = outputs if block.task in block.experiment.tasks else ()
            available = self.located.train_rows[block.task]
            outputs = ("validation", *tested, *blocks(block.resolved.train, available))
        reads = {role: ("result",) for role in inputs}
        layer = need.settings.get("layer")
        label = f"{need.step} {sender} {block.task}" + (f" layer={layer}" if layer else "")
        if block.control in ("random_sender", "task_blind"):
            label += f" {CONTROL}={block.control}"
        return self.jobs.add(
            block, "prepare", need.step, settings, inputs, reads, outputs, label, places
        )

    def _with_prompt(self, need: Need, block: Block) -> dict[str, Any]:
        """A need with what of the task decides what the sender reads."""
        task = self.spec.tasks[block.task]
        asked = sender_prompt(block.control, task)
        prompt = {} if need.step == "text" else {"prompt": asked}
        reading = {"max_prompt_tokens": task.max_prompt_tokens, **prompt, **need.settings}
        return {"step": need.step, "settings": reading}

    def _model(self, role: Role, block: Block) -> Mapping[str, Any]:
        """What identifies the weights of a role's model."""
        found = self.located.models[block.model(role)]
        return of_sender(block.control, found) if role == "sender" else found

    def _add_model(
        self, role: Role, block: Block, inputs: dict[str, str], places: dict[str, str]
    ) -> None:
        """Where a role's model comes from: a folder or hub id, or the job that trains the toy."""
        model = block.model(role)
        toy = self.spec.models[model].toy
        if toy is None:
            places[role] = self.located.model_paths[model]
            return
        settings = {
            "toy": toy,
            "version": self.located.models[model]["version"],
            "threads": self.spec.resources.threads,
        }
        inputs[role] = self.jobs.add(
            block, "prepare", "toy", settings, {}, {}, ("result",), f"toy {toy}", {}
        )


def _place_of(arm: ArmDeclaration) -> dict[str, str]:
    """Where an arm of the spec's own stands."""
    return {} if arm.file is None else {"arm": arm.file}
