"""From a TOML file to a checked Spec; every complaint says where in the file."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ValidationError

from lwspec.engine import toml
from lwspec.engine.arm import ArmDeclaration
from lwspec.engine.spec import Experiment, Spec
from lwspec.errors import SpecError, SpecErrors, nearest

PLAINLY = {
    "tuple_type": "a list in brackets is wanted",
    "too_short": "at least {min_length} are wanted, {actual_length} given",
}
"""Pydantic's sentences that speak of Python, in the user's words."""

Arms = Mapping[str, ArmDeclaration]
Loc = tuple[str | int, ...]


@dataclass(frozen=True)
class Source:
    """A spec's file and text: what errors point into, and what paths are relative to."""

    path: Path
    text: str

    def where(self, loc: Sequence[str | int]) -> str:
        """`file:line:column` of a key; a key of an experiment may stand in [defaults]."""
        place = toml.position(self.text, str(self.path), loc)
        if len(loc) > 2 and loc[0] == "experiment":
            own = toml.position(self.text, str(self.path), loc[:2])
            shared = toml.position(self.text, str(self.path), ("defaults", *loc[2:]))
            none = toml.position(self.text, str(self.path), ("defaults",))
            if place == own and shared != none:
                return shared
        return place


@dataclass(frozen=True)
class LoadedSpec:
    """A checked spec with the text that it came from."""

    spec: Spec
    source: Source

    def fail(
        self,
        loc: Sequence[str | int],
        what: str,
        *,
        near: str | None = None,
        to_do: str | None = None,
    ) -> NoReturn:
        """Raise a SpecError that points at the key."""
        raise SpecError(what, where=self.source.where(loc), nearest=near, remedy=to_do)


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
    source = Source(path, text)
    raw = toml.parse(text, str(path))
    merged = _merge_defaults(raw, arms, source)
    try:
        spec = Spec.model_validate(merged)
    except ValidationError as error:
        raise SpecErrors(_explain(error, merged, source, also=arms)) from None
    loaded = LoadedSpec(spec, source)
    for check in (_check_names, _check_arm_tables, _check_sweeps):
        check(loaded, arms)
    return loaded


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
        _all_known(loaded, (*at, "arms"), "arm", experiment.arms, arms)
        _all_known(loaded, (*at, "tasks"), "task", experiment.tasks, spec.tasks)
        for role in ("sender", "receiver"):
            _all_known(loaded, (*at, role), "model", (getattr(experiment, role),), spec.models)
        for task in experiment.tasks:
            for place, arm in enumerate(experiment.arms):
                if spec.tasks[task].kind == "generation" and not arms[arm].generates:
                    loaded.fail(
                        (*at, "arms", place),
                        f"{arm} has no free answer, which task {task!r} asks for",
                        to_do="give it an experiment of its own, on classification tasks",
                    )
    names = [experiment.name for experiment in spec.experiment]
    _no_twins(loaded, "experiment", names)
    for kind in ("table", "figure"):
        items = getattr(spec, kind)
        _no_twins(loaded, kind, [item.name for item in items])
        for index, item in enumerate(items):
            _all_known(loaded, (kind, index, "experiments"), "experiment", item.experiments, names)
    paths = [(kind, i, a.path) for kind in ("table", "figure") for i, a in _artefacts(spec, kind)]
    for place, (kind, index, written) in enumerate(paths):
        if written is not None and any(written == other for _, _, other in paths[:place]):
            loaded.fail((kind, index, "path"), f"{written!r} is written twice")
    template = spec.paper and loaded.source.path.parent / spec.paper.template
    if template and not template.is_file():
        loaded.fail(("paper", "template"), f"there is no template {template.name!r} here")


def _artefacts(spec: Spec, kind: str) -> list[tuple[int, Any]]:
    return list(enumerate(getattr(spec, kind)))


def _all_known(
    loaded: LoadedSpec, at: Loc, kind: str, names: Sequence[str], known: typing.Iterable[str]
) -> None:
    valid = list(known)
    for position, name in enumerate(names):
        if name not in valid:
            loaded.fail(
                (*at, position),
                f"there is no {kind} {name!r}",
                near=nearest(name, valid),
                to_do=f"choose among: {', '.join(sorted(valid))}",
            )


def _no_twins(loaded: LoadedSpec, kind: str, names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            loaded.fail((kind, index, "name"), f"a second {kind} is named {name!r}")


def _check_arm_tables(loaded: LoadedSpec, arms: Arms) -> None:
    """Each arm's table fits the settings that the arm declares."""
    for index, experiment in enumerate(loaded.spec.experiment):
        for name in experiment.arms:
            table = experiment.settings.get(name, {})
            try:
                arms[name].settings.model_validate(table)
            except ValidationError as error:
                at: Loc = ("experiment", index, name)
                raise SpecErrors(
                    _explain(error, table, loaded.source, at, arms[name].settings)
                ) from None


def _check_sweeps(loaded: LoadedSpec, arms: Arms) -> None:
    """Each swept key exists, takes the values given, and changes every arm of the experiment."""
    for index, experiment in enumerate(loaded.spec.experiment):
        for key, values in experiment.sweep.items():
            at: Loc = ("experiment", index, "sweep", key)
            valid = sweepable(experiment, arms)
            if key not in valid:
                loaded.fail(
                    at,
                    f"the sweep is over {key!r}, which is no setting of this experiment",
                    near=nearest(key, valid),
                    to_do=f"choose among: {', '.join(valid)}",
                )
            table, field = key.split(".", 1)
            if table in arms and experiment.arms != (table,):
                others = ", ".join(arm for arm in experiment.arms if arm != table)
                loaded.fail(
                    at,
                    f"the sweep changes {table} alone: every point would run the same {others}",
                    to_do=f"give {table} an experiment of its own for the sweep",
                )
            _check_sweep_values(loaded, arms, experiment, index, key, values)


def sweepable(experiment: Experiment, arms: Arms) -> list[str]:
    """The keys that a sweep of this experiment may vary, as `table.key`."""
    keys = [
        f"{arm}.{field}" for arm in experiment.arms for field in arms[arm].settings.model_fields
    ]
    keys += [f"train.{field}" for field in type(experiment.train).model_fields]
    return keys


def _check_sweep_values(
    loaded: LoadedSpec,
    arms: Arms,
    experiment: Experiment,
    index: int,
    key: str,
    values: tuple[Any, ...],
) -> None:
    table, field = key.split(".", 1)
    for position, value in enumerate(values):
        at: Loc = ("experiment", index, "sweep", key, position)
        if value in values[:position]:
            loaded.fail(at, f"the sweep has {value!r} twice: two points would be one")
        try:
            if table == "train":
                type(experiment.train).model_validate({field: value})
            else:
                own = experiment.settings.get(table, {})
                arms[table].settings.model_validate({**own, field: value})
        except ValidationError as error:
            loaded.fail(at, f"{key} cannot be {value!r}: {error.errors()[0]['msg']}")


def _explain(
    error: ValidationError,
    raw: Any,
    source: Source,
    at: Loc = (),
    model: type[BaseModel] = Spec,
    also: typing.Iterable[str] = (),
) -> list[SpecError]:
    """Pydantic's findings in the user's words, one for each key."""
    found: dict[Loc, SpecError] = {}
    details = error.errors()
    for detail in details:
        loc = _written_loc(detail["loc"], raw)
        inner = any(d["loc"][: len(loc)] == loc and len(d["loc"]) > len(loc) for d in details)
        if detail["type"] == "too_short" and inner:
            continue  # pydantic counts only the valid items: what is wrong with the others is said
        shown = (*at, *(part for part in loc if part != "settings"))
        key, table = (shown[-1] if shown else ""), _table_name(shown[:-1], raw)
        near = None
        if detail["type"] == "extra_forbidden":
            near = nearest(str(key), [*_valid_keys(model, detail["loc"][:-1]), *also])
            what = f"unknown key {key!r}" + (f" in {table}" if table else "")
        elif detail["type"] == "missing":
            what = f"{table or 'the spec'} lacks the key {key!r}"
        else:
            plain = PLAINLY.get(detail["type"])
            said = plain.format(**detail.get("ctx", {})) if plain else detail["msg"]
            what = f"{key}: {said.removeprefix('Value error, ')}"
            if detail["type"] != "value_error" and isinstance(detail["input"], str | int | float):
                what += f", got {detail['input']!r}"
            if detail["type"] == "literal_error" and isinstance(detail["input"], str):
                near = nearest(detail["input"], detail["ctx"]["expected"].replace("'", "").split())
        if loc in found:
            what = f"{found[loc].what}, or: {detail['msg']}"
        found[loc] = SpecError(what, where=source.where(shown), nearest=near)
    return list({error.where: error for error in found.values()}.values())


def _table_name(loc: Loc, raw: Any) -> str:
    """A table as people call it: an experiment by its name, not by its number."""
    if len(loc) > 1 and isinstance(loc[1], int) and isinstance(raw, dict):
        item = raw[loc[0]][loc[1]] if loc[0] in raw else {}
        name = item.get("name") if isinstance(item, dict) else None
        loc = (f"{loc[0]} {name!r}" if name else f"{loc[0]} {loc[1] + 1}", *loc[2:])
    return ".".join(str(part) for part in loc)


def _written_loc(loc: Loc, raw: Any) -> Loc:
    """The part of pydantic's location that names keys of the file, not alternatives of a union."""
    written: Loc = ()
    for part in loc:
        written += (part,)
        if isinstance(raw, list) and isinstance(part, int):
            raw = raw[part]
        elif isinstance(raw, dict):
            if part not in raw and part == raw.get("kind"):
                written = written[:-1]  # pydantic's tag of which kind it took
                continue
            if part not in raw:
                return written
            raw = raw[part]
        else:
            return written[:-1]
    return written


def _valid_keys(model: type[BaseModel], loc: Loc) -> list[str]:
    """The keys that the table at `loc` may have."""
    inner: list[type[BaseModel]] = []
    for part in loc:
        field = model.model_fields.get(str(part))
        inner = _models_in(field.annotation) if field else inner
        tagged = [each for each in inner if each.__name__.lower() == part]
        if field or tagged:
            model = (tagged or inner or [model])[0]
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The spec's models that a field may hold."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for part in typing.get_args(annotation) for model in _models_in(part)]
