"""Whether the arms that a table compares meet on equal terms, from the spec alone.

Two arms are compared where a table shows both on one task. Not one may then be of the private
regime and another of the shared, in which the receiver sees the context too. Those that are
trained learn from as many rows of the same tasks, for as many epochs in batches of one size, from
as much of each answer, and are tested after the last epoch or the best; all are tested on the
same rows; those with anything to set are tried at as many settings. A table that breaks a rule
says why, in `unequal`, or is refused. Timings are held to the first rule alone: what an arm
learnt does not change how long it takes. An arm's controls are no trials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lwspec.engine.arm import ArmDeclaration
from lwspec.engine.spec.artefacts import Table
from lwspec.engine.spec.loaded import LoadedSpec
from lwspec.engine.spec.resolve import Resolved, at_point, points, trained_on
from lwspec.engine.spec.spec import AtMost, Experiment


@dataclass(frozen=True)
class _Row:
    """An arm at one sweep point of an experiment."""

    arm: ArmDeclaration
    experiment: Experiment
    resolved: Resolved
    trained_on: tuple[str, ...]
    trials: int = 0
    """At how many settings the table shows the arm."""
    """The tasks whose rows it learns from."""

    @property
    def tested(self) -> bool:
        return self.experiment.latency is None

    @property
    def learns(self) -> bool:
        return self.tested and self.arm.trained

    @property
    def over_epochs(self) -> bool:
        return self.learns and self.arm.epochs

    @property
    def tuned(self) -> bool:
        return self.tested and bool(self.arm.trained or self.arm.settings.model_fields)


@dataclass(frozen=True)
class _Rule:
    """What must be the same for all arms that it holds for."""

    what: str
    holds_for: Callable[[_Row], bool]
    value: Callable[[_Row], str]


def _samples(row: _Row) -> str:
    samples = row.resolved.train.samples
    return f"at most {samples.max:,}" if isinstance(samples, AtMost) else _count(samples)


def _trained_on(row: _Row) -> str:
    return " + ".join(sorted(row.trained_on))


def _count(number: int | None) -> str:
    return "all" if number is None else f"{number:,}"


RULES = (
    _Rule("regime", lambda row: row.arm.regime != "reference", lambda row: row.arm.regime),
    _Rule("training rows", lambda row: row.learns, _samples),
    _Rule("trained on", lambda row: row.learns, _trained_on),
    _Rule("epochs", lambda row: row.over_epochs, lambda row: _count(row.resolved.train.epochs)),
    _Rule(
        "batch size",
        lambda row: row.over_epochs,
        lambda row: _count(row.resolved.train.batch_size),
    ),
    _Rule(
        "supervised tokens of an answer",
        lambda row: row.over_epochs,
        lambda row: _count(row.resolved.train.supervised_tokens),
    ),
    _Rule("test rows", lambda row: row.tested, lambda row: _count(row.experiment.evaluate.rows)),
    _Rule("epoch tested", lambda row: row.over_epochs, lambda row: row.resolved.train.checkpoint),
    _Rule("settings tried", lambda row: row.tuned, lambda row: _count(row.trials)),
)


def check_fairness(
    loaded: LoadedSpec, arms: Mapping[str, ArmDeclaration]
) -> dict[str, tuple[str, ...]]:
    """What differs between the compared arms of each table that says why; in words.

    Raises SpecError for a table that does not say why, and for one that has nothing to explain.
    """
    found = {}
    for index, table in enumerate(loaded.spec.table):
        differing = tuple(_differences(table, loaded, arms))
        if differing and table.unequal is None:
            loaded.fail(
                ("table", index, "experiments"),
                f"table {table.name!r} compares arms on unequal terms: {'; '.join(differing)}",
                to_do="make them equal, give them tables of their own, or say why in "
                'unequal = "...", which is printed below the table',
            )
        if table.unequal is not None and not differing:
            loaded.fail(
                ("table", index, "unequal"),
                f"the arms of table {table.name!r} are compared on equal terms",
                to_do="delete unequal",
            )
        if differing:
            found[table.name] = differing
    _check_figures(loaded, arms)
    return found


def _check_figures(loaded: LoadedSpec, arms: Mapping[str, ArmDeclaration]) -> None:
    """A figure that sets arms side by side has one regime: it has no place for a reason."""
    for index, figure in enumerate(loaded.spec.figure):
        behind = [e for e in loaded.spec.experiment if e.name in figure.experiments]
        regimes = {arms[arm].regime: arm for e in behind for arm in e.arms}
        if figure.kind in ("arms", "bytes") and {"private", "shared"} <= set(regimes):
            loaded.fail(
                ("figure", index, "experiments"),
                f"figure {figure.name!r} shows {regimes['private']}, whose receiver never sees the "
                f"text, beside {regimes['shared']}, whose receiver does",
                to_do="give each regime a figure of its own",
            )


def _differences(
    table: Table, loaded: LoadedSpec, arms: Mapping[str, ArmDeclaration]
) -> Iterator[str]:
    """Each broken rule in words, with the tasks where it is not broken on all."""
    rows = {task: _counted(list(_rows(table, task, loaded, arms))) for task in loaded.spec.tasks}
    tasks = [task for task, shown in rows.items() if shown]
    for rule in RULES:
        broken: dict[str, list[str]] = {}
        for task in tasks:
            said = _difference(rule, [row for row in rows[task] if rule.holds_for(row)])
            if said:
                broken.setdefault(said, []).append(task)
        for said, where in broken.items():
            yield said if where == tasks else f"{said}, on {_listed(where)}"


def _rows(
    table: Table, task: str, loaded: LoadedSpec, arms: Mapping[str, ArmDeclaration]
) -> Iterator[_Row]:
    """What a table shows of a task."""
    if table.tasks is not None and task not in table.tasks:
        return
    for experiment in loaded.spec.experiment:
        if experiment.name not in table.experiments or task not in experiment.tasks:
            continue
        for name in experiment.arms:
            if table.arms is None or name in table.arms:
                arm = arms[name]
                on = trained_on(experiment, arm, task)
                for point in points(experiment):
                    yield _Row(arm, experiment, at_point(experiment, arm, point), on)


def _counted(rows: Sequence[_Row]) -> list[_Row]:
    """The rows with how many settings of their arm there are among them."""
    tried: dict[str, set[str]] = {}
    for row in rows:
        resolved = row.resolved.settings.model_dump_json(), row.resolved.train.model_dump_json()
        tried.setdefault(row.arm.name, set()).add("".join(resolved))
    return [replace(row, trials=len(tried[row.arm.name])) for row in rows]


def _difference(rule: _Rule, rows: Sequence[_Row]) -> str:
    """How arms differ in what a rule holds alike; empty where they do not.

    An arm at several sweep points, or in several experiments, has a set of values: the arms are
    equal where their sets are.
    """
    values: dict[str, dict[str, None]] = {}
    for row in rows:
        values.setdefault(row.arm.name, {})[rule.value(row)] = None
    if len({frozenset(each) for each in values.values()}) < 2:
        return ""
    by_value: dict[str, list[str]] = {}
    for arm, each in values.items():
        by_value.setdefault(" and ".join(each), []).append(arm)
    listed = (f"{value} ({_listed(names)})" for value, names in by_value.items())
    return f"{rule.what}: {', '.join(listed)}"


def _listed(names: Sequence[Any]) -> str:
    return ", ".join(map(str, names))
