"""The text of a new spec: a pair of models, its tasks, and settings of a size that fits them."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwspec.cli.new.task import NewTask, new_task
from lwspec.cli.new.templates import render
from lwspec.engine.executors.local import gpu_ids
from lwspec.engine.plan.expand import expand
from lwspec.engine.plan.fingerprint import Fingerprints
from lwspec.engine.plan.locate import locate
from lwspec.engine.plan.machines import kept
from lwspec.engine.plan.plan import Plan, make_plan
from lwspec.engine.plan.price import unit_of
from lwspec.engine.plan.records import Records
from lwspec.engine.runs.runfolder import Runs
from lwspec.engine.shapes import UNKNOWN, Shape, shape_of
from lwspec.engine.spec.load import check
from lwspec.engine.spec.toml import Source
from lwspec.errors import UsageError, nearest
from lwspec.kernels.arms import declarations

NOTHING = Records({}, {}, (), {}, {}, {})
NO_LIMIT = 1e9
"""Hours of a budget that is yet to be set."""
OVER_P90 = 2.0
"""Of the budget that is written: room for another experiment, and for retries."""
LEAST_HOURS = 1.0
"""Of the budget that is written: a machine that does other things too takes longer."""
SMALL = 1e8
"""Parameters of models that a CPU trains a bridge between."""


@dataclass(frozen=True)
class NewModel:
    """A model of the pair: its name in the spec, where it lies, its shape where that is known."""

    name: str
    source: dict[str, str]
    shape: Shape | None

    @property
    def said(self) -> str:
        """What a comment says of it."""
        if "toy" in self.source:
            return "trained here in minutes, when it is first used"
        if self.shape is None:
            return "of unknown size: priced as 8 billion parameters in 32 layers"
        millions = self.shape.parameters / 1e6
        size = f"{millions:.2g} million" if millions < 100 else f"{millions / 1e3:.2g} billion"
        return f"{size} parameters, {self.shape.layers} layers"


@dataclass(frozen=True)
class Recipe:
    """Settings for models of some size."""

    train: str
    width: int
    depth: int
    heads: int
    relay_tokens: int


TOY = Recipe(
    "{ samples = { max = 1500 }, epochs = 4, batch_size = 32, learning_rate = 2e-3, "
    "warmup_steps = 10 }",
    64, 1, 4, 16,
)  # fmt: skip
TINY = Recipe(
    "{ samples = { max = 2000 }, epochs = 3, batch_size = 16, learning_rate = 5e-4, "
    "warmup_steps = 50 }",
    256, 2, 8, 24,
)  # fmt: skip
LARGE = Recipe(
    "{ samples = { max = 10000 }, epochs = 6, batch_size = 16, learning_rate = 2e-4 }",
    1024, 2, 8, 50,
)  # fmt: skip


def new_spec(
    spec: Path, sender: str | None, receiver: str | None, tasks: Sequence[str], runs: Path
) -> str:
    """The text of a spec that can be planned as it stands, written to `spec` by whoever asks.

    Raises UsageError, DataError or SpecError.
    """
    if (sender is None) != (receiver is None):
        raise UsageError("a pair has a --sender and a --receiver: give both, or neither")
    pair = (_model(sender, spec, "llama"), _model(receiver, spec, "mistral"))
    windows = [model.shape.context for model in pair if model.shape and model.shape.context]
    made = [new_task(task, spec, min(windows, default=None)) for task in tasks or ["sentiment"]]
    values = _values(spec, pair, made)
    source = Source(spec, render("spec.toml.jinja", hours=NO_LIMIT, priced="", **values))
    plan = _plan(source, runs)
    hours = {
        "hours": _round_up(max(LEAST_HOURS, OVER_P90 * plan.p90_hours)),
        "priced": _range(plan),
    }
    return render("spec.toml.jinja", **hours, **values)


def _model(given: str | None, spec: Path, toy: str) -> NewModel:
    """A model by its folder or hub id, or a toy where none is given."""
    if given is None:
        source = {"toy": toy}
        return NewModel(toy, source, shape_of(source, ""))
    folder = Path(given)
    if (folder / "config.json").is_file():
        path = os.path.relpath(folder, spec.parent)
        return NewModel(folder.resolve().name, {"path": path}, shape_of({"weights": ""}, given))
    if folder.exists() or folder.parent.is_dir() or not re.fullmatch(r"[\w.-]+/[\w.-]+", given):
        siblings = [str(other.parent) for other in folder.parent.glob("*/config.json")]
        raise UsageError(
            f"{given} is neither a folder with a config.json nor a hub id",
            nearest=nearest(given, siblings),
            remedy="give a folder that exists, or a hub id such as org/name",
        )
    return NewModel(given.split("/")[1], {"path": given}, shape_of({}, given))


def _values(
    spec: Path, pair: tuple[NewModel, NewModel], tasks: Sequence[NewTask]
) -> dict[str, Any]:
    """What the template is filled with, but for the budget's hours."""
    sender, receiver = pair
    if sender.name == receiver.name and sender.source != receiver.source:
        raise UsageError(f"sender and receiver are both named {sender.name!r}: rename a folder")
    shapes = [model.shape or UNKNOWN for model in pair]
    small = all(shape.parameters <= SMALL for shape in shapes)
    toys = all("toy" in model.source for model in pair)
    recipe = TOY if toys else TINY if small else LARGE
    gpus = gpu_ids()
    return {
        "file": spec,
        "name": spec.stem,
        "unit": "cpu" if small else _unit(),
        "at_once": len(os.sched_getaffinity(0)) if small else max(1, len(gpus)),
        "models": list({model.name: model for model in pair}.values()),
        "sender": sender,
        "receiver": receiver,
        "tasks": tasks,
        "chance": toys and not all("toy = " in task.text for task in tasks),
        "labelled": [task.name for task in tasks if task.kind == "classification"],
        "written": [task.name for task in tasks if task.kind == "generation"],
        "layer": shapes[0].layers // 2,
        "layers": shapes[0].layers,
        "paper": f"{spec.stem}.tex",
        "title": f"What {sender.name} hands to {receiver.name}",
        **vars(recipe),
    }


def _unit() -> str:
    """The budget's unit that this machine's first GPU is, or else the commonest."""
    told = [path.read_text() for path in Path("/proc/driver/nvidia/gpus").glob("*/information")]
    return next((unit for text in told if (unit := unit_of(text))), None) or "h100"


def _plan(source: Source, runs: Path) -> Plan:
    """The plan of a spec that nothing was run of. Raises SpecError."""
    arms = declarations()
    loaded = check(source, arms)
    fingerprints = Fingerprints(runs / "cache" / "fingerprints.json")
    located = locate(loaded, fingerprints)
    fingerprints.save()
    benched = kept(Runs(runs), loaded.spec.budget.gpu)
    expansion = expand(loaded, arms, located)
    return make_plan(loaded, expansion, arms, located, NOTHING, {}, {}, (), benched)


def _round_up(hours: float) -> str:
    """To one digit."""
    step = 10.0 ** math.floor(math.log10(hours))
    return f"{math.ceil(hours / step) * step:g}"


def _range(plan: Plan) -> str:
    return f"{plan.p50_hours:.2g} to {plan.p90_hours:.2g}"
