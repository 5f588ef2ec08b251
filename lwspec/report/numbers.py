"""Every number of the report: read from the predictions, estimated, compared, and remembered.

Statistics are kept in `runs/cache/` by the hashes of the predictions that they rest on and of the
code that made them, so that a second report computes only what is new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray
from pyarrow import parquet

from lwspec.engine.job import canonical
from lwspec.engine.metrics import DECIDES, METRICS
from lwspec.engine.plan.expand import Cell
from lwspec.engine.plan.plan import Plan
from lwspec.engine.runs.checksum import KEY, is_intact, sha256_of, with_checksum
from lwspec.engine.runs.jsonfile import read_json, remember_json
from lwspec.engine.spec.artefacts import Test
from lwspec.errors import RunFolderError
from lwspec.report import statistics
from lwspec.report.query import Group, Output, Results, file_of
from lwspec.report.statistics.choose import Items, Measured, alike, compare, difference, estimate
from lwspec.report.statistics.gap import recovered_gap
from lwspec.report.statistics.intervals import COUNTED, Estimate
from lwspec.report.statistics.spread import Spread
from lwspec.report.statistics.tests import Comparison

PREDICTIONS = "predictions/test.parquet"


@dataclass(frozen=True)
class Found:
    """The finished measurements of a group, in the order of its cells."""

    outputs: tuple[Output, ...]
    seeds: tuple[int, ...]
    """Of each output."""
    missing: tuple[str, ...]
    """Ids of the measurements that have not finished."""


class Numbers:
    """A plan's results, and what is computed from them."""

    def __init__(self, plan: Plan, results: Results, runs: Path) -> None:
        self.plan = plan
        self.results = results
        self._runs = runs
        self._remembered = _Remembered(runs / "cache" / "statistics.json")

    def found(self, group: Group) -> Found:
        """One output a measurement; an arm without a seed has one for all seeds."""
        wanted = {cell.evaluate: cell for cell in reversed(group.cells)}
        cells = [wanted[job] for job in dict.fromkeys(cell.evaluate for cell in group.cells)]
        outputs = [self.results.evaluation(cell) for cell in cells]
        pairs = [(cell, output) for cell, output in zip(cells, outputs, strict=True) if output]
        return Found(
            tuple(output for _, output in pairs),
            tuple(cell.seed for cell, _ in pairs),
            tuple(c.evaluate for c, output in zip(cells, outputs, strict=True) if output is None),
        )

    def estimate(self, group: Group, metric: str) -> Estimate | None:
        """The mean in the metric's unit with its interval; None where nothing recorded it."""
        made = self.recorded(group, metric)
        return made and made.scaled(METRICS[metric].factor)

    def recorded(self, group: Group, metric: str) -> Estimate | None:
        """The same as it was recorded: a share of 1, not per cent."""
        if METRICS[metric].made == "counted":
            return self._counted(group, metric)
        outputs = [out for out in self.found(group).outputs if metric in out.metrics]
        if not outputs:
            return None
        key = ["estimate", metric, group.cells[0].seeded, _evidence(outputs)]
        made = self._remembered.get(key, lambda: asdict(estimate(self._measured(group, metric))))
        return _estimate(made)

    def recovered(self, group: Group, bounds: Sequence[Group]) -> Estimate | None:
        """The share that a group closes of the gap between two bounds, in the metric's unit.

        None where runs are missing, or where there is no gap.
        """
        score = DECIDES[self.plan.loaded.spec.tasks[group.task].kind]
        sides, seeded = (group, *bounds), group.cells[0].seeded
        found = [self.found(side).outputs for side in sides]
        if not bounds or not all(found):
            return None

        def compute() -> dict[str, Any]:
            arm, none, text = (self._measured(side, score).items for side in sides)
            if arm is None or none is None or text is None:
                return {"estimate": None}
            made = recovered_gap(arm, none, text, seeded=seeded)
            return {"estimate": made and asdict(made)}

        made = self._remembered.get(["gap", score, seeded, *map(_evidence, found)], compute)
        factor = METRICS["recovered_gap"].factor
        return made["estimate"] and _estimate(made["estimate"]).scaled(factor)

    def _counted(self, group: Group, metric: str) -> Estimate | None:
        """What the jobs behind a group trained or took, on the mean over its runs."""
        finished = {output.job for output in self.found(group).outputs}
        cells = {cell.evaluate: cell for cell in group.cells if cell.evaluate in finished}
        count = self._parameters if metric == "parameters" else self._seconds
        values = [value for cell in cells.values() if (value := count(cell)) is not None]
        return Estimate(float(numpy.mean(values)), None, None, COUNTED) if values else None

    def _parameters(self, cell: Cell) -> float | None:
        """The parameters that the cell's fit trained; None where it did not record them."""
        made = self.results.epochs(cell)
        trained = made[0].facts.get("parameters") if made else 0
        return None if trained is None else float(trained)

    def _seconds(self, cell: Cell) -> float:
        """Device seconds of the cell's evaluation, and its share by epochs of a longer fit's."""
        spent, made = self.results.device_s, self.results.epochs(cell)
        seconds = spent.get(cell.evaluate, 0.0)
        if cell.fit is None:
            return seconds
        (epochs,) = self.plan.expansion.jobs[cell.evaluate].settings["checkpoint"].values()
        return seconds + min(1.0, int(epochs) / len(made)) * spent.get(cell.fit, 0.0)

    def compare(self, one: Group, other: Group, metric: str, test: Test) -> Comparison | str:
        """One group less another in the metric's unit, or why no test applies."""

        def compute() -> dict[str, Any]:
            made = compare(self._measured(one, metric), self._measured(other, metric), test)
            return {"why": made} if isinstance(made, str) else asdict(made)

        sides = [
            [group.cells[0].seeded, _evidence(self.found(group).outputs)] for group in (one, other)
        ]
        made = self._remembered.get(["compare", metric, test, sides], compute)
        if "why" in made:
            return str(made["why"])
        return Comparison(**made).scaled(METRICS[metric].factor)

    def spread(self, one: Group, other: Group, metric: str) -> tuple[float, Spread] | None:
        """The difference of two groups over their common items, and its spread.

        None where one has no scores of items: they are then held against each other as they are.
        """
        sides = self._measured(one, metric), self._measured(other, metric)
        return difference(*sides, METRICS[metric].factor)

    def alike(self, one: Group, other: Group, metric: str) -> int | None:
        """How many common items two groups score alike in all of their runs; None if not all."""
        return alike(self._measured(one, metric), self._measured(other, metric))

    def save(self) -> None:
        """Remember what was computed."""
        self._remembered.save()

    def _measured(self, group: Group, metric: str) -> Measured:
        found = self.found(group)
        pairs = [
            (output, seed)
            for output, seed in zip(found.outputs, found.seeds, strict=True)
            if metric in output.metrics
        ]
        sds = [output.metrics.get(f"{metric}_sd") for output, _ in pairs]
        return Measured(
            tuple(output.metrics[metric] for output, _ in pairs),
            tuple(seed for _, seed in pairs) if group.cells[0].seeded else None,
            self._items([output for output, _ in pairs], metric),
            METRICS[metric].share,
            tuple(
                (sd, int(output.facts["passes"]))
                for sd, (output, _) in zip(sds, pairs, strict=True)
                if sd is not None
            ),
        )

    def _items(self, outputs: Sequence[Output], metric: str) -> Items | None:
        """The scores of every output's items; None where the metric is no mean over items."""
        if not outputs or any(PREDICTIONS not in output.files for output in outputs):
            return None
        read = [_columns(file_of(self._runs, output, PREDICTIONS), metric) for output in outputs]
        if any(columns is None for columns in read):
            return None
        names = {names for names, _ in filter(None, read)}
        assert len(names) == 1, "seeds of one cell are scored on the same items"
        return Items(names.pop(), numpy.array([scores for _, scores in filter(None, read)]))


@lru_cache(maxsize=8192)
def _columns(path: Path, metric: str) -> tuple[tuple[str, ...], NDArray[numpy.float64]] | None:
    """The items of a file of predictions and a metric of each: comparisons ask for them again."""
    with parquet.ParquetFile(path) as file:
        if metric not in file.schema_arrow.names:
            return None
        table = file.read(["item", metric])
    table = table.filter(table[metric].is_valid())  # some metrics are not defined on every item
    names = _one_of_each(tuple(table["item"].to_pylist()))
    return names, numpy.array(table[metric].to_pylist(), dtype=numpy.float64)


@cache
def _one_of_each(names: tuple[str, ...]) -> tuple[str, ...]:
    """The same names once, however many files hold them."""
    return names


def _estimate(made: Mapping[str, Any]) -> Estimate:
    """An estimate as it was remembered."""
    spread = Spread(tuple((part[0], part[1]) for part in made["spread"]["parts"]))
    return Estimate(**{**made, "spread": spread})


def _evidence(outputs: Sequence[Output]) -> list[list[str]]:
    """What the numbers of outputs rest on: the hashes of their files."""
    return [sorted(output.files.values()) for output in outputs]


class _Remembered:
    """Results of pure functions by what they were computed from, in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            kept = read_json(path) if path.exists() else {}
        except RunFolderError:
            kept = {}
        whole = is_intact(kept)  # what was damaged or edited is computed again
        self._known = {name: kept[name] for name in kept if name != KEY} if whole else {}
        self._used: dict[str, Any] = {}

    def get(self, key: Any, compute: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        name = hashlib.sha256(canonical([_code(), key]).encode()).hexdigest()
        if name not in self._used:
            self._used[name] = self._known.get(name) or compute()
        found: Mapping[str, Any] = self._used[name]
        return found

    def save(self) -> None:
        """Keep what was used; what nothing asked for is forgotten."""
        if self._used != self._known:
            remember_json(self._path, with_checksum(self._used), indent=None)


@cache
def _code() -> str:
    """The hash of the code that computes statistics."""
    files = sorted(Path(statistics.__file__).parent.glob("*.py"))
    return hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()
