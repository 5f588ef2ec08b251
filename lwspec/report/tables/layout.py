"""Which measurements stand in which row and column of a table: known before anything has run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lwspec.engine.metrics import METRICS, NO_MESSAGE, WITH_TEXT, Metric
from lwspec.engine.plan.plan import Plan
from lwspec.engine.spec.artefacts import Table
from lwspec.errors import SpecError, nearest
from lwspec.report.query import Group, groups

Place = tuple[str, str]
"""A row and a column."""


@dataclass(frozen=True)
class Slot:
    """What one entry of a table shows."""

    group: Group
    metric: str
    bounds: tuple[Group, ...] = ()
    """Of a recovered gap, the arms without a message and with the text that it lies between."""


@dataclass(frozen=True)
class Layout:
    """A table's rows and columns, and what stands where they meet."""

    table: Table
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    slots: Mapping[Place, Slot]
    headings: Mapping[str, str]
    """Row to the heading that it stands under, where the table has groups."""
    against: Mapping[Place, Place]
    """Each entry that is tested, and the one that it is tested against: of what was measured."""

    @property
    def path(self) -> str:
        """Where the table is written, below the paper's folder."""
        return self.table.files[0]


def layout(table: Table, plan: Plan) -> Layout:
    """Lay a table out. Raises SpecError where it compares with a row or column that it lacks."""
    behind = groups(plan, table.experiments)
    found = [
        group
        for group in behind
        if (table.arms is None or group.arm in table.arms)
        and (table.tasks is None or group.task in table.tasks)
    ]
    homes: dict[str, set[str]] = {}
    for group in found:
        homes.setdefault(group.row, set()).add(group.experiment)
    tasks = tuple(table.tasks or dict.fromkeys(group.task for group in found))
    if table.arms is not None:
        found.sort(key=lambda group: (table.arms or ()).index(group.arm))
    names = {
        id(group): group.row if len(homes[group.row]) == 1 else f"{group.row}, {group.experiment}"
        for group in found
    }
    by_name: dict[Place, Slot] = {
        (names[id(group)], _column(group.task, METRICS[metric], len(tasks), table)): Slot(
            group, metric, _bounds(group, metric, behind, plan)
        )
        for group in found
        for metric in table.metric
    }
    rows = tuple(dict.fromkeys(names.values()))
    columns = tuple(
        dict.fromkeys(
            _column(task, METRICS[metric], len(tasks), table)
            for task in tasks
            for metric in table.metric
        )
    )
    against = _against(table, plan, rows, by_name)
    if table.rows == "tasks":
        turned = {(column, row): slot for (row, column), slot in by_name.items()}
        pairs = {one[::-1]: other[::-1] for one, other in against.items()}
        return Layout(table, columns, rows, turned, {}, pairs)
    headings = {names[id(group)]: group.heading for group in found} if table.groups else {}
    return Layout(table, rows, columns, by_name, headings, against)


def _bounds(group: Group, metric: str, behind: Sequence[Group], plan: Plan) -> tuple[Group, ...]:
    """What a recovered gap lies between, on the group's task and of its receiver.

    Nothing, for an arm that answers with weights of its own in the receiver: the bounds have none.
    """
    homes = {e.name: e for e in plan.loaded.spec.experiment}
    home = homes[group.experiment]
    if METRICS[metric].made != "held against bounds" or home.latency is not None:
        return ()
    if "receiver" in plan.loaded.arms[group.arm].own:
        return ()

    def bound(arm: str) -> Group:
        return next(
            other
            for other in behind
            if (other.arm, other.task, other.point) == (arm, group.task, "")
            and homes[other.experiment].receiver == home.receiver
            and homes[other.experiment].evaluate.rows == home.evaluate.rows
            and homes[other.experiment].latency is None
        )

    return bound(NO_MESSAGE), bound(WITH_TEXT)


def _column(task: str, metric: Metric, tasks: int, table: Table) -> str:
    """A column's heading: the task, the metric where there is one task, or both."""
    if len(table.metric) == 1:
        return task
    return metric.heading if tasks == 1 else f"{task} {metric.heading}"


def _against(
    table: Table, plan: Plan, rows: tuple[str, ...], slots: Mapping[Place, Slot]
) -> dict[Place, Place]:
    if table.compare is None:
        return {}
    to = table.compare.to
    if to not in rows:
        names = [each.name for each in plan.loaded.spec.table]
        raise SpecError(
            f"table {table.name!r} compares with {to!r}, which is none of its rows",
            where=plan.loaded.source.where(("table", names.index(table.name), "compare", "to")),
            nearest=nearest(to, rows),
            remedy=f"choose among: {', '.join(rows)}",
        )
    return {
        (row, column): (to, column)
        for (row, column), slot in slots.items()
        if row != to and (to, column) in slots and METRICS[slot.metric].made == "measured"
    }
