"""Whether what a spec says of the paper fits its experiments."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lwspec.engine.metrics import METRICS, NO_MESSAGE, WITH_TEXT, Metric
from lwspec.engine.spec.artefacts import CLAIM_FIELDS, Claim, Figure, Table
from lwspec.engine.spec.loaded import LoadedSpec, all_known, no_twins
from lwspec.engine.spec.toml import Loc
from lwspec.errors import nearest


def check_artefacts(loaded: LoadedSpec) -> None:
    """Every table and figure names experiments and metrics that go together; paths are distinct.

    Raises SpecError.
    """
    spec = loaded.spec
    known = [experiment.name for experiment in spec.experiment]
    kinds: dict[str, Sequence[Table | Figure]] = {"table": spec.table, "figure": spec.figure}
    written = {"numbers.tex", "results.md", f"{spec.stem}.tex", f"{spec.stem}.pdf"}
    for kind, items in kinds.items():
        no_twins(loaded, kind, [item.name for item in items])
        for index, item in enumerate(items):
            all_known(loaded, (kind, index, "experiments"), "experiment", item.experiments, known)
            if isinstance(item, Table):
                _check_selection(loaded, index, item)
            _check_metrics(loaded, kind, index, item)
            if twice := [path for path in item.files if path in written]:
                place = "path" if item.path is not None else "name"
                loaded.fail((kind, index, place), f"{twice[0]!r} is written twice")
            written.update(item.files)
    for index, figure in enumerate(spec.figure):
        if figure.kind == "sweep":
            _check_one_sweep(loaded, index, figure.experiments)
    no_twins(loaded, "claim", [claim.name for claim in spec.claim])
    for index, claim in enumerate(spec.claim):
        _check_fields(loaded, index, claim)
    if spec.paper:
        _check_template(loaded, spec.paper.template)


def _check_template(loaded: LoadedSpec, name: str) -> None:
    """A template is a LaTeX file of the spec's folder, or of the git repository around it."""
    at, home = ("paper", "template"), loaded.source.path.absolute().parent
    template = home / name
    if not template.is_file():
        loaded.fail(at, f"there is no template {template.name!r} here")
    project = next((place for place in (home, *home.parents) if (place / ".git").exists()), home)
    if template.suffix != ".tex" or not template.resolve().is_relative_to(project.resolve()):
        loaded.fail(
            at,
            f"{name!r} is no .tex file below the spec's folder or its git repository",
            to_do="keep the template beside the spec",
        )


def _check_fields(loaded: LoadedSpec, index: int, claim: Claim) -> None:
    """A claim's sentences name numbers that it has; the one without runs has none."""
    fields = [f"{{{field}}}" for field in CLAIM_FIELDS]
    for key, valid in (("says", fields), ("otherwise", fields), ("untested", [])):
        for found in re.findall(r"\{\w+\}", getattr(claim, key)):
            if found not in valid:
                loaded.fail(
                    ("claim", index, key),
                    f"claim {claim.name!r} has no number {found}",
                    near=nearest(found, valid),
                    to_do=f"choose among: {', '.join(valid)}"
                    if valid
                    else "leave it out: what was not tested has no numbers",
                )


def _check_selection(loaded: LoadedSpec, index: int, table: Table) -> None:
    """The arms and tasks that a table is limited to occur in its experiments."""
    behind = [e for e in loaded.spec.experiment if e.name in table.experiments]
    for key, chosen in (("arms", table.arms), ("tasks", table.tasks)):
        there = dict.fromkeys(name for e in behind for name in getattr(e, key))
        all_known(loaded, ("table", index, key), key[:-1], chosen or (), there)


def _check_metrics(loaded: LoadedSpec, kind: str, index: int, item: Table | Figure) -> None:
    """A metric is recorded by at least one of the experiments: timings by those with latency."""
    named = not (isinstance(item, Figure) and item.kind in ("learning_curves", "latency"))
    fitting = [name for name, known in METRICS.items() if _recorded(loaded, item, known)]
    for place, metric in enumerate((item.metric,) if isinstance(item, Figure) else item.metric):
        what = None
        if metric not in METRICS:
            what = f"there is no metric {metric!r}"
        elif named and metric not in fitting:
            what = f"{metric} is recorded by no experiment of {kind} {item.name!r}"
        if what is not None:
            loaded.fail(
                (kind, index, "metric", place),
                what,
                near=nearest(metric, fitting),
                to_do=f"choose among: {', '.join(fitting)}",
            )
        if named and METRICS[metric].made == "held against bounds":
            _check_bounds(loaded, item, (kind, index, "metric", place))


def _check_bounds(loaded: LoadedSpec, item: Table | Figure, at: Loc) -> None:
    """Where a table shows a gap, its experiments hold the arms between which the gap lies."""
    behind = [
        experiment
        for experiment in loaded.spec.experiment
        if experiment.name in item.experiments and experiment.latency is None
    ]
    for experiment in behind:
        for task in experiment.tasks:
            there = {
                arm
                for other in behind
                if task in other.tasks
                and other.receiver == experiment.receiver
                and other.evaluate.rows == experiment.evaluate.rows
                for arm in other.arms
            }
            lacking = [arm for arm in (NO_MESSAGE, WITH_TEXT) if arm not in there]
            if lacking and _shown(item, task):
                loaded.fail(
                    at,
                    f"a recovered gap lies between {NO_MESSAGE} and {WITH_TEXT}; the experiments "
                    f"of table {item.name!r} lack {' and '.join(lacking)} on {task} with the "
                    f"receiver {experiment.receiver!r}, tested on the same rows",
                    to_do="add an experiment with them; `arms` may leave their rows out",
                )


def _shown(item: Table | Figure, task: str) -> bool:
    return not isinstance(item, Table) or item.tasks is None or task in item.tasks


def _recorded(loaded: LoadedSpec, item: Table | Figure, metric: Metric) -> bool:
    """Whether an experiment of the artefact records a metric on one of its tasks."""
    if isinstance(item, Figure) and metric.made != "measured":
        return False
    return any(
        metric.timed == (experiment.latency is not None)
        and (not metric.asked or getattr(experiment.evaluate, metric.asked) is not None)
        and loaded.spec.tasks[task].kind in metric.kinds
        for experiment in loaded.spec.experiment
        if experiment.name in item.experiments
        for task in experiment.tasks
        if _shown(item, task)
    )


def _check_one_sweep(loaded: LoadedSpec, figure: int, experiments: Sequence[str]) -> None:
    """The experiments of a sweep's figure vary one and the same numeric setting: its axis."""
    swept: set[str] = set()
    for place, name in enumerate(experiments):
        behind = [e for e in loaded.spec.experiment if e.name == name]
        sweeps = [{**e.sweep, **({"controls": e.controls} if e.controls else {})} for e in behind]
        for sweep in sweeps:
            swept |= set(sweep)
            numbers = all(isinstance(v, int | float) for values in sweep.values() for v in values)
            if len(sweep) != 1 or len(swept) != 1 or not numbers:
                loaded.fail(
                    ("figure", figure, "experiments", place),
                    f"a figure of a sweep has one numeric setting as its axis; {name!r} makes it "
                    f"{', '.join(sorted(swept)) or 'none'}",
                    to_do="choose experiments that sweep the same one key, over numbers",
                )
