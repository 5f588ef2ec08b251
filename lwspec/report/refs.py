"""Entries of tables by name, TABLE:ROW/COLUMN, and pairs for claims.

`*` stands for every column of the table's first metric.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lwspec.engine.metrics import METRICS
from lwspec.engine.plan.plan import Plan
from lwspec.engine.spec.artefacts import Claim
from lwspec.engine.spec.toml import Loc
from lwspec.errors import SpecError, UsageError, nearest
from lwspec.report.tables.layout import Layout, Place

At = tuple[Layout, Place]
"""An entry: its table and where in it."""


@dataclass(frozen=True)
class Pair:
    """What a claim holds against each other, in one column; `right` may be a number."""

    left: At
    right: At | float

    @property
    def left_name(self) -> str:
        """What stands on the left."""
        return name_of(self.left)

    @property
    def right_name(self) -> str:
        """What stands on the right."""
        return f"{self.right:g}" if isinstance(self.right, float) else name_of(self.right)


def entry_names(layouts: Sequence[Layout]) -> dict[str, At]:
    """Every entry by the names that it goes by: its table's, and the path that it is written to."""
    names = {}
    for layout in layouts:
        table = layout.table
        for row, column in layout.slots:
            path = layout.path.removesuffix(".tex").removeprefix("tables/")
            for home in (table.name, path):
                names[f"{home}:{row}/{column}"] = (layout, (row, column))
    return names


def resolve(ref: str, layouts: Sequence[Layout]) -> list[At]:
    """The entries that a reference names, at least one. Raises UsageError where it names none."""
    names = entry_names(layouts)
    home, _, rest = ref.removeprefix("tables/").partition(":")
    wanted = f"{home.removesuffix('.tex')}:{rest}"
    if wanted in names:
        return [names[wanted]]
    if wanted.endswith("/*"):
        row = [entry for name, entry in names.items() if name.startswith(wanted[:-1])]
        metrics = {layout.slots[place].metric for layout, place in row}
        for first in (metric for layout, _ in row for metric in layout.table.metric):
            if first in metrics:
                return [(layout, at) for layout, at in row if layout.slots[at].metric == first]
    raise UsageError(
        f"there is no entry {ref!r}",
        nearest=nearest(wanted, names),
        remedy="name it TABLE:ROW/COLUMN, as the table shows its row and column",
    )


def resolve_in_spec(ref: str, at: Loc, plan: Plan, layouts: Sequence[Layout]) -> list[At]:
    """The entries that the spec's key at `at` names. Raises SpecError with its line."""
    try:
        return resolve(ref, layouts)
    except UsageError as error:
        where = plan.loaded.source.where(at)
        raise SpecError(
            error.what, where=where, nearest=error.nearest, remedy=error.remedy
        ) from None


def name_of(entry: At) -> str:
    """An entry's reference."""
    layout, (row, column) = entry
    return f"{layout.table.name}:{row}/{column}"


def pairs_of(plan: Plan, layouts: Sequence[Layout]) -> dict[str, list[Pair]]:
    """What each claim of the spec compares. Raises SpecError for what no table has."""
    return {
        claim.name: list(_pairs(index, claim, plan, layouts))
        for index, claim in enumerate(plan.loaded.spec.claim)
    }


def _pairs(index: int, claim: Claim, plan: Plan, layouts: Sequence[Layout]) -> Iterator[Pair]:
    def find(side: str, ref: str) -> list[At]:
        found = resolve_in_spec(ref, ("claim", index, side), plan, layouts)
        for layout, place in found:
            metric = METRICS[layout.slots[place].metric]
            if metric.made == "counted":
                plan.loaded.fail(
                    ("claim", index, side),
                    f"{metric.heading} is counted over the runs and has no spread to test",
                    to_do="claim something of what was measured",
                )
        return found

    left = find("left", claim.left)
    if not isinstance(claim.right, str):
        yield from (Pair(entry, float(claim.right)) for entry in left)
        return
    right = {entry[1][1]: entry for entry in find("right", claim.right)}
    if len(right) == 1 and len(left) == 1:
        yield Pair(left[0], next(iter(right.values())))
        return
    for entry in left:
        if entry[1][1] not in right:
            plan.loaded.fail(
                ("claim", index, "right"),
                f"{claim.right} has no column {entry[1][1]!r}, which {claim.left} has",
            )
        yield Pair(entry, right[entry[1][1]])
