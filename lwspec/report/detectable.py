"""The least difference that each planned experiment can detect, shown before it runs."""

from __future__ import annotations

from lwspec.engine.plan.plan import Plan
from lwspec.engine.spec.spec import Experiment
from lwspec.report.query import Results
from lwspec.report.statistics.power import minimum_detectable_difference
from lwspec.report.statistics.tests import LEAST_SEEDS


def detectable(plan: Plan, results: Results) -> dict[str, float]:
    """Experiment to the least difference that it detects on its smallest task, in points of 100.

    Left out is one whose arms are not run with enough seeds for a test, as arms that no seed can
    change never are, and one that only times.
    """
    spec = plan.loaded.spec
    assumed = spec.statistics
    seeds = {row.experiment: row.seeds for row in plan.rows}
    found = {}
    for experiment in spec.experiment:
        if experiment.latency is not None or seeds[experiment.name] < LEAST_SEEDS:
            continue
        counts = [_items(experiment, task, plan, results) for task in experiment.tasks]
        known = [count for count in counts if count is not None]
        found[experiment.name] = 100 * minimum_detectable_difference(
            seeds[experiment.name],
            min(known, default=None),
            seed_sd=assumed.seed_sd,
            item_sd=assumed.item_sd,
        )
    return found


def _items(experiment: Experiment, task: str, plan: Plan, results: Results) -> int | None:
    """Test items of a task: as they were read, else as the spec limits them."""
    spec, jobs = plan.loaded.spec, plan.expansion.jobs
    counts = []
    for cell in plan.expansion.cells:
        if cell.experiment == experiment.name and cell.task == task:
            data = results.outputs.get(jobs[cell.evaluate].inputs["data"], {}).get("result")
            counts += [int(data.facts["rows"]["test"])] if data else []
            break
    declared = (spec.tasks[task].splits.test.rows, experiment.evaluate.rows)
    counts += [count for count in declared if count is not None]
    return min(counts, default=None)
