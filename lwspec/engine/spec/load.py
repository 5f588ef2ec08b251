"""From a TOML file to a checked Spec; every complaint says where in the file."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from lwspec.engine.arm import ArmDeclaration, Regime
from lwspec.engine.spec import toml
from lwspec.engine.spec.artefact_checks import check_artefacts
from lwspec.engine.spec.controls import CONTROL, CONTROLS
from lwspec.engine.spec.explain import explain
from lwspec.engine.spec.fairness import check_fairness
from lwspec.engine.spec.loaded import LoadedSpec, all_known, no_twins
from lwspec.engine.spec.resolve import at_point, points, table_at
from lwspec.engine.spec.spec import Experiment, Latency, Spec, Train
from lwspec.engine.spec.task import Classification, Generation
from lwspec.engine.spec.toml import Loc, Source
from lwspec.errors import SpecError, SpecErrors, nearest

Arms = Mapping[str, ArmDeclaration]

MOST_POINTS = 4_096
"""Of one experiment's sweep."""
MOST_CELLS = 200_000
"""Of a spec: a plan of so many is made in minutes, and held in memory."""
MOST_EPOCHS = 2_000_000
"""Of all cells' fits together: a plan names each."""


def load(path: Path, arms: Arms) -> LoadedSpec:
    """Read and check a spec file.

    Raises SpecError, or SpecErrors for several at once.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        specs = [str(spec) for spec in (*Path().glob("*.toml"), *Path().glob("specs/*.toml"))]
        by_stem = [spec for spec in specs if Path(spec).stem == path.stem]
        raise SpecError(
            f"cannot read the spec: {error.strerror}",
            where=str(path),
            nearest=by_stem[0] if by_stem else nearest(str(path), specs),
            remedy="lwspec plan SPEC",
        ) from None
    except UnicodeDecodeError as error:
        raise SpecError(f"not UTF-8 text: {error.reason}", where=str(path)) from None
    return check(Source(path, text), arms)


def check(source: Source, arms: Arms) -> LoadedSpec:
    """Check a spec's text, which may not have been written yet. Raises as `load` does."""
    _check_own_arms(arms)
    raw = toml.parse(source.text, str(source.path))
    merged = _merge_defaults(raw, arms, source)
    try:
        spec = Spec.model_validate(merged)
    except ValidationError as error:
        raise SpecErrors(explain(error.errors(), merged, source, also=arms)) from None
    loaded = LoadedSpec(spec, source)
    checks = (
        _check_names, _check_size, _check_controls, _check_train_on, _check_arm_tables,
        _check_sweeps,
    )  # fmt: skip
    for look in checks:
        look(loaded, arms)
    check_artefacts(loaded)
    used = {name: arms[name] for experiment in spec.experiment for name in experiment.arms}
    return replace(loaded, unequal=check_fairness(loaded, arms), arms=used)


def _check_own_arms(arms: Arms) -> None:
    """The arms of the spec's own files declare what there is."""
    for arm in arms.values():
        wrong = None if arm.file is None else _misdeclared(arm)
        if wrong is not None:
            raise SpecError(f"the declaration {wrong}", where=arm.file, remedy="see docs/arms.md")


def _misdeclared(arm: ArmDeclaration) -> str | None:
    """What is wrong with an arm's declaration, in words that follow "the declaration"."""
    if arm.name in {*Experiment.model_fields, *Spec.model_fields, "defaults", "control"}:
        return f"takes the name {arm.name!r}, which is a key of specs"
    if arm.tokens is not None and arm.tokens not in arm.settings.model_fields:
        return f"says tokens={arm.tokens!r}, which is no setting of the arm"
    if arm.regime not in get_args(Regime):
        return f"has the regime {arm.regime!r}; there are {', '.join(get_args(Regime))}"
    of_tasks = {*Classification.model_fields, *Generation.model_fields}
    for field in arm.reads:
        if field not in of_tasks:
            return f"reads {field!r}, which no task has; did you mean {nearest(field, of_tasks)!r}"
    for role in (*arm.models, *arm.own):
        if role not in ("sender", "receiver"):
            return f"names the model {role!r}; there are a sender and a receiver"
    return None


def arm_files(path: Path) -> list[Path]:
    """Where a spec's own arms stand; none of a spec that cannot be read, which `load` tells."""
    try:
        named = tomllib.loads(path.read_text(encoding="utf-8")).get("arm_files", ())
    except (OSError, ValueError, RecursionError):
        return []
    files = named if isinstance(named, list) else ()
    return [(path.parent / file).resolve() for file in files if isinstance(file, str)]


def _merge_defaults(raw: dict[str, Any], arms: Arms, source: Source) -> dict[str, Any]:
    """Fill each experiment from [defaults] and gather its arms' tables under `settings`."""
    merged = dict(raw)
    defaults = merged.pop("defaults", {})
    experiments = merged.get("experiment")
    if not isinstance(defaults, dict):
        raise SpecError("defaults is a table", where=source.where(("defaults",)))
    _check_default_keys(defaults, arms, source)
    if not isinstance(experiments, list) or not all(isinstance(e, dict) for e in experiments):
        return merged
    merged["experiment"] = []
    for index, own in enumerate(experiments):
        wanted = own.get("arms", defaults.get("arms", ()))
        wanted = wanted if isinstance(wanted, list) else []
        known = all(isinstance(name, str) and name in arms for name in wanted)
        for name in own:
            if known and name in arms and name not in wanted:
                raise SpecError(
                    f"{name} is set here, but is not among the experiment's arms",
                    where=source.where(("experiment", index, name)),
                    remedy=f'add "{name}" to arms, or delete the table',
                )
        _check_own_sweep(own, index, source)
        inherited = {k: v for k, v in defaults.items() if k not in arms or k in wanted}
        experiment = _merge(inherited, own)
        settings = {k: experiment.pop(k) for k in list(experiment) if k in arms}
        if "settings" not in experiment:
            experiment["settings"] = settings
        else:
            raise SpecError(
                "unknown key 'settings'",
                where=source.where(("experiment", index, "settings")),
                remedy="write each arm's table directly: bridge = { latents = 8 }",
            )
        merged["experiment"].append(experiment)
    return merged


def _check_own_sweep(own: dict[str, Any], index: int, source: Source) -> None:
    """A sweep's keys are quoted, and no experiment both sets and sweeps one setting."""
    for key, values in (own["sweep"] if isinstance(own.get("sweep"), dict) else {}).items():
        where = ("experiment", index, "sweep", key)
        if isinstance(values, dict):
            inner = next(iter(values), "")
            raise SpecError(
                f"the sweep's key {key}.{inner} must be quoted",
                where=source.where(where),
                remedy=f'write "{key}.{inner}" = [...]',
            )
        table, _, field = key.partition(".")
        if isinstance(own.get(table), dict) and field in own[table]:
            raise SpecError(
                f"{key} is both set and swept in one experiment",
                where=source.where(where),
                remedy=f"delete {field} from {table}",
            )


def _check_default_keys(defaults: dict[str, Any], arms: Arms, source: Source) -> None:
    valid = {*Experiment.model_fields, *arms} - {"name", "settings", "sweep"}
    for key in defaults:
        if key not in valid:
            raise SpecError(
                f"unknown key {key!r} in defaults",
                where=source.where(("defaults", key)),
                nearest=nearest(key, valid),
            )


def _merge(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        inherited = merged.get(key)
        if isinstance(value, dict) and isinstance(inherited, dict):
            value = {**inherited, **value}
        merged[key] = value
    return merged


def _check_names(loaded: LoadedSpec, arms: Arms) -> None:
    """Every arm, task, model and experiment that is named exists."""
    spec = loaded.spec
    for index, experiment in enumerate(spec.experiment):
        at: Loc = ("experiment", index)
        all_known(loaded, (*at, "arms"), "arm", experiment.arms, arms)
        all_known(loaded, (*at, "tasks"), "task", experiment.tasks, spec.tasks)
        for role in ("sender", "receiver"):
            all_known(loaded, (*at, role), "model", (getattr(experiment, role),), spec.models)
        on = experiment.train_on if isinstance(experiment.train_on, tuple) else ()
        all_known(loaded, (*at, "train_on"), "task", on, spec.tasks)
        for task in (*experiment.tasks, *on):
            for place, arm in enumerate(experiment.arms):
                if spec.tasks[task].kind == "generation" and not arms[arm].generates:
                    loaded.fail(
                        (*at, "arms", place),
                        f"{arm} has no free answer, which task {task!r} asks for",
                        to_do="give it an experiment of its own, on classification tasks",
                    )
    names = [experiment.name for experiment in spec.experiment]
    no_twins(loaded, "experiment", names)


def _check_size(loaded: LoadedSpec, arms: Arms) -> None:
    """The sweeps, cells and epochs are no more than can be planned."""
    cells = epochs = 0
    for index, experiment in enumerate(loaded.spec.experiment):
        swept = math.prod(map(len, experiment.sweep.values()))
        if swept > MOST_POINTS:
            loaded.fail(
                ("experiment", index, "sweep"),
                f"the sweep has {swept:,} points; an experiment takes {MOST_POINTS:,}",
                to_do="sweep fewer keys or values at once, or in several experiments",
            )
        sides = (experiment.arms, experiment.tasks, experiment.seeds)
        own = swept * (1 + len(experiment.controls)) * math.prod(map(len, sides))
        tried = (e for e in experiment.sweep.get("train.epochs", ()) if isinstance(e, int))
        cells, epochs = cells + own, epochs + own * max(experiment.train.epochs, *tried, 1)
        if cells > MOST_CELLS or epochs > MOST_EPOCHS:
            loaded.fail(
                ("experiment", index),
                f"up to this experiment the spec has {cells:,} cells and {epochs:,} epochs; a plan "
                f"takes {MOST_CELLS:,} and {MOST_EPOCHS:,}",
                to_do="sweep fewer values, or split the spec into several",
            )


def _check_controls(loaded: LoadedSpec, arms: Arms) -> None:
    """Controls are known, and stand where an arm is tested that hands something over."""
    for index, experiment in enumerate(loaded.spec.experiment):
        at: Loc = ("experiment", index, "controls")
        all_known(loaded, at, "control", experiment.controls, CONTROLS)
        if not experiment.controls:
            continue
        if experiment.latency is not None:
            loaded.fail(
                at, "a timing has no controls", to_do="delete them, or set controls = [] here"
            )
        if all(arms[name].regime == "reference" for name in experiment.arms):
            loaded.fail(
                at,
                f"no arm of {experiment.name!r} hands anything over: its controls change nothing",
                to_do="delete them, or set controls = [] here",
            )


def _check_train_on(loaded: LoadedSpec, arms: Arms) -> None:
    """Somebody learns from the tasks of `train_on`, and there is one to learn from."""
    for index, experiment in enumerate(loaded.spec.experiment):
        at: Loc = ("experiment", index, "train_on")
        if experiment.train_on is None:
            continue
        if not any(arms[arm].trained for arm in experiment.arms):
            loaded.fail(
                at,
                f"none of its arms is trained ({', '.join(experiment.arms)}): train_on changes "
                "nothing",
                to_do="delete train_on; if it stands in [defaults], move it into the experiments "
                "that train",
            )
        if experiment.train_on == "others" and len(experiment.tasks) == 1:
            loaded.fail(
                at,
                f"beside {experiment.tasks[0]} the experiment has no task to train on",
                to_do="list more tasks, or name those to train on: train_on = [...]",
            )


def _check_arm_tables(loaded: LoadedSpec, arms: Arms) -> None:
    """Each arm's table, filled by the sweep, fits the settings that the arm declares."""
    for index, experiment in enumerate(loaded.spec.experiment):
        for name in experiment.arms:
            swept = {
                key.partition(".")[2] for key in experiment.sweep if key.startswith(f"{name}.")
            }
            table, findings = _unfit(experiment, arms[name])
            # What is wrong with a swept value is said where the value stands.
            own = [found for found in findings if not found["loc"] or found["loc"][0] not in swept]
            if own:
                at: Loc = ("experiment", index, name)
                raise SpecErrors(explain(own, table, loaded.source, at, arms[name].settings))


def _unfit(
    experiment: Experiment, arm: ArmDeclaration
) -> tuple[Mapping[str, Any], Sequence[ErrorDetails]]:
    """An arm's table at its first point and what is wrong with it; nothing if any point fits."""
    first: tuple[Mapping[str, Any], Sequence[ErrorDetails]] | None = None
    for point in points(experiment):
        table = table_at(experiment, arm, point)
        try:
            arm.settings.model_validate(table)
        except ValidationError as error:
            first = first or (table, error.errors())
        else:
            return table, ()
    assert first is not None, "there is at least one point"
    return first


def _check_sweeps(loaded: LoadedSpec, arms: Arms) -> None:
    """Each swept key exists, takes the values given, and changes every arm of the experiment."""
    for index, experiment in enumerate(loaded.spec.experiment):
        for key in experiment.sweep:
            at: Loc = ("experiment", index, "sweep", key)
            valid = sweepable(experiment, arms)
            if key not in valid:
                untimed = key.startswith("latency.") and experiment.latency is None
                remedy = f"choose among: {', '.join(valid)}"
                if untimed:
                    remedy = "add latency = {} to time it"
                elif key == CONTROL:
                    remedy = "controls are no sweep: write controls = [...] in the experiment"
                loaded.fail(
                    at,
                    f"the sweep is over {key!r}, which is no setting of this experiment",
                    near=None if untimed else nearest(key, valid),
                    to_do=remedy,
                )
            table, field = key.split(".", 1)
            if table in arms and experiment.arms != (table,):
                others = ", ".join(arm for arm in experiment.arms if arm != table)
                loaded.fail(
                    at,
                    f"the sweep changes {table} alone: every point would run the same {others}",
                    to_do=f"give {table} an experiment of its own for the sweep",
                )
            _check_sweep_values(loaded, arms, experiment, index, key)


def sweepable(experiment: Experiment, arms: Arms) -> list[str]:
    """The keys that a sweep of this experiment may vary, as `table.key`."""
    keys = [
        f"{arm}.{field}" for arm in experiment.arms for field in arms[arm].settings.model_fields
    ]
    keys += [f"train.{field}" for field in Train.model_fields]
    if experiment.latency is not None:
        keys += [f"latency.{field}" for field in Latency.model_fields]
    return keys


def _check_sweep_values(
    loaded: LoadedSpec, arms: Arms, experiment: Experiment, index: int, key: str
) -> None:
    """No value is swept twice, and the settings take each value beside every other key's."""
    at: Loc = ("experiment", index, "sweep", key)
    values = experiment.sweep[key]
    for position, value in enumerate(values):
        if value in values[:position]:
            loaded.fail((*at, position), f"the sweep has {value!r} twice: two points would be one")
    for point in points(experiment):
        try:
            for name in experiment.arms:
                at_point(experiment, arms[name], point)
        except ValidationError as error:
            found = error.errors()[0]
            named = not found["loc"] or str(found["loc"][0]) == key.split(".", 1)[1]
            if named:
                said = found["msg"].removeprefix("Value error, ")
                place = (*at, values.index(point[key]))
                loaded.fail(place, f"{key} cannot be {point[key]!r}: {said}")
