"""What a reader must know to read a table's numbers, below it."""

from __future__ import annotations

from collections.abc import Sequence

from lwspec.engine.metrics import DECIDES, METRICS, NO_MESSAGE, WITH_TEXT
from lwspec.engine.plan.plan import Plan
from lwspec.engine.spec.controls import CONTROL, CONTROLS
from lwspec.engine.spec.spec import Evaluate
from lwspec.report.evidence import Evidence, lost_behind, moved_behind
from lwspec.report.statistics.intervals import (
    DETERMINISTIC,
    ITEMS,
    ONE_SEED,
    PAIRED_BOOTSTRAP,
    SEEDS,
    SEEDS_AND_ITEMS,
    WILSON,
)
from lwspec.report.tables.entries import (
    NO_GAP,
    NOT_RUN,
    OUTSIDE,
    PLANNED,
    SIGNIFICANT,
    UNDEFINED,
    Entry,
    TableData,
)

INTERVAL_NOTES = {
    SEEDS_AND_ITEMS: "Brackets: 95% interval over seeds and test items.",
    SEEDS: "Brackets: 95% interval over seeds.",
    WILSON: "Arms without a seed run once; their interval is over test items (Wilson).",
    ITEMS: "Arms without a seed run once; their interval is over test items (Student's t).",
    PAIRED_BOOTSTRAP: "Brackets: 95% bootstrap over test items, Student's t over seeds.",
    ONE_SEED: "One seed gives no interval.",
    DETERMINISTIC: "Arms without a seed run once.",
}


def notes(data: TableData, plan: Plan, evidence: Evidence) -> list[str]:
    """Paragraphs of plain text: how the numbers came about; then what stands on unequal terms, what
    each control changes, and how each arm departs from what was published.
    """
    present = list(data.entries.values())
    reading = " ".join(_reading_notes(data, plan, evidence))
    apart = [
        *_unequal_notes(data, plan),
        *_control_notes(present),
        *_deviation_notes(present, plan),
    ]
    return [reading, *apart] if reading else apart


def _reading_notes(data: TableData, plan: Plan, evidence: Evidence) -> list[str]:
    """What numbers, intervals, marks and words in entries mean, and on how much they rest."""
    present = list(data.entries.values())
    notes = [*_pairs(data, plan), *_made_notes(data, plan)]
    notes += _interval_notes(data)
    notes += _test_notes(data)
    notes += _counted("Test items", [(entry.group.task, entry.n) for entry in present])
    notes += _counted("Training rows", [(entry.group.task, entry.samples) for entry in present])
    notes += _train_on_notes(data, plan)
    notes += _epoch_notes(data, plan)
    notes += _precision_notes(present, plan)
    notes += _unread_notes(present, plan)
    passes = sorted({entry.passes for entry in present if entry.passes is not None})
    if passes:
        listed = " or ".join(map(str, passes))
        machines = "; ".join(sorted({entry.hardware for entry in present if entry.hardware}))
        notes.append(
            f"Timed on {machines} over {listed} passes after warm-up; a receiver writes "
            f"{_new_tokens(present, plan)} tokens."
        )
    if any(entry.subset for entry in present):
        notes.append("\u2020 A declared subset of the test split.")
    notes += _missing_notes(present)
    notes += _code_notes(present, plan, evidence)
    if any(entry.text == PLANNED for entry in present):
        notes.append(f"\u201c{PLANNED}\u201d: priced, and not meant to be run yet.")
    if any(entry.text == UNDEFINED for entry in present):
        notes.append(f"\u201c{UNDEFINED}\u201d: the metric is not defined for the arm.")
    if any(entry.text == NO_GAP for entry in present):
        notes.append(
            f"\u201c{NO_GAP}\u201d: {WITH_TEXT} is not above {NO_MESSAGE} beyond chance, so that "
            "there is nothing to recover."
        )
    if len(present) < len(data.layout.rows) * len(data.layout.columns):
        notes.append(f"\u201c{OUTSIDE}\u201d: not part of the plan.")
    return notes


def _code_notes(present: Sequence[Entry], plan: Plan, evidence: Evidence) -> list[str]:
    """Which of the runs behind the numbers nobody could repeat, or were made of what has moved."""
    jobs = [
        cell.evaluate
        for entry in present
        if entry.estimate is not None
        for group in entry.groups
        for cell in group.cells
    ]
    lost = lost_behind(jobs, plan, evidence)
    listed = ", ".join(f"{_runs(count)} {why}" for why, count in lost.items())
    notes = [f"From code that cannot be had again: {listed}."] if lost else []
    for place, commits in moved_behind(jobs, plan, evidence).items():
        notes.append(f"{place} was read at {len(commits)} commits: {', '.join(commits)}.")
    return notes


def _missing_notes(present: Sequence[Entry]) -> list[str]:
    """What is missing where nothing has finished, and where some of the runs have."""
    empty = {job for entry in present if entry.estimate is None for job in entry.missing}
    partly = [entry for entry in present if entry.estimate is not None and entry.missing]
    notes = []
    if empty:
        notes.append(f"\u201c{NOT_RUN}\u201d: not finished yet, {_runs(len(empty))} in all.")
    if partly:
        counts = dict.fromkeys(f"\u201c{entry.some}\u201d" for entry in partly)
        lacking = len({job for entry in partly for job in entry.missing})
        notes.append(
            f"{', '.join(counts)}: finished of the runs that are planned, {_runs(lacking)} missing."
        )
    return notes


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"


def _interval_notes(data: TableData) -> list[str]:
    """How intervals were made; of which metrics, where it differs between them."""
    methods: dict[str, list[str]] = {}
    for entry in data.entries.values():
        if entry.estimate is not None:
            methods.setdefault(entry.estimate.method, []).append(METRICS[entry.metric].heading)
    notes = []
    for method, note in INTERVAL_NOTES.items():
        of = list(dict.fromkeys(methods.get(method, ())))
        every = len(of) == len(data.layout.table.metric)
        notes += [note if every else f"{note[:-1]} ({', '.join(of)})."] if of else []
    return notes


def _new_tokens(present: Sequence[Entry], plan: Plan) -> str:
    """How many tokens the receivers of timed arms write."""
    jobs = [plan.expansion.jobs[cell.evaluate] for entry in present for cell in entry.group.cells]
    counts = {job.settings["latency"]["new_tokens"] for job in jobs if job.kind == "latency"}
    return " or ".join(str(count) for count in sorted(counts))


def _pairs(data: TableData, plan: Plan) -> list[str]:
    """Who sends to whom, where that differs between rows."""
    experiments = {e.name: e for e in plan.loaded.spec.experiment}
    homes: dict[str, list[str]] = {}
    for name in dict.fromkeys(entry.group.experiment for entry in data.entries.values()):
        pair = f"{experiments[name].sender} to {experiments[name].receiver}"
        homes.setdefault(pair, []).append(name)
    if len(homes) < 2:
        return []
    listed = "; ".join(f"{pair} in {', '.join(names)}" for pair, names in homes.items())
    return [f"Sender to receiver: {listed}."]


def _train_on_notes(data: TableData, plan: Plan) -> list[str]:
    """Whose rows trained arms have learnt from, where they are not their own task's."""
    shown = {entry.group.experiment for entry in data.entries.values()}
    return [
        f"Trained on {'all other tasks' if e.train_on == 'others' else ' + '.join(e.train_on)}: "
        f"trained arms in {e.name}; their training rows are counted over those tasks."
        for e in plan.loaded.spec.experiment
        if e.train_on is not None and e.name in shown
    ]


def _made_notes(data: TableData, plan: Plan) -> list[str]:
    """What numbers are whose names do not say it."""
    metrics, tasks = data.layout.table.metric, plan.loaded.spec.tasks
    notes = []
    if "recovered_gap" in metrics:
        kinds = dict.fromkeys(tasks[entry.group.task].kind for entry in data.entries.values())
        scores = " or ".join(METRICS[DECIDES[kind]].heading for kind in kinds)
        notes.append(
            f"Recovered gap: (score - {NO_MESSAGE}) / ({WITH_TEXT} - {NO_MESSAGE}), of {scores}."
        )
    if "entity_recall" in metrics:
        notes.append(
            "Entity recall: numbers and capitalised words within sentences, over the items whose "
            "target holds any."
        )
    if "context_bits" in metrics:
        homes = {e.name: e.evaluate.bits for e in plan.loaded.spec.experiment}
        used = {homes[entry.group.experiment] for entry in data.entries.values()}
        counts = " or ".join(str(count) for count in sorted(filter(None, used)))
        notes.append(
            f"Context bits: what the message saves the receiver in reading the first {counts} "
            "tokens of the context, in log-likelihood."
        )
    if "parameters" in metrics:
        notes.append("Parameters: those that are trained.")
    if "gpu_seconds" in metrics:
        notes.append(
            "Device seconds: of the fit and the evaluation, all their attempts, on the mean over "
            "seeds. Not in them is what the sender read or wrote beforehand, for arms that take "
            "its stored states or texts; in them is what it reads within an arm's own jobs. A fit "
            "over several tasks counts whole for each."
        )
    return notes


def _counted(what: str, counts: Sequence[tuple[str, int | None]]) -> list[str]:
    """How many rows stand behind each task's entries, all numbers named where they differ."""
    by_task: dict[str, set[int]] = {}
    for task, count in counts:
        if count is not None:
            by_task.setdefault(task, set()).add(count)
    each = [
        f"{task} {' or '.join(f'{n:,}' for n in sorted(found))}" for task, found in by_task.items()
    ]
    return [f"{what}: {', '.join(each)}."] if each else []


def _epoch_notes(data: TableData, plan: Plan) -> list[str]:
    """For how long the arms were trained, where any was trained over epochs."""
    jobs = plan.expansion.jobs
    epochs = set()
    for entry in data.entries.values():
        for cell in entry.group.cells:
            fit = jobs[cell.fit] if cell.fit else None
            if fit is not None and "train" in fit.settings:
                ((_, count),) = jobs[cell.evaluate].settings["checkpoint"].items()
                epochs.add(int(count))
    listed = " or ".join(str(count) for count in sorted(epochs))
    return [f"Epochs: {listed}."] if epochs else []


def _deviation_notes(present: Sequence[Entry], plan: Plan) -> list[str]:
    """How each arm departs from what was published."""
    arms = dict.fromkeys(entry.group.arm for entry in present)
    stated = {arm: plan.loaded.arms[arm].deviations for arm in arms}
    return [f"{arm} departs from its source: {said}" for arm, said in stated.items() if said]


def _unequal_notes(data: TableData, plan: Plan) -> list[str]:
    """What differs between the arms beside what they are, and the spec's reason."""
    differing = plan.loaded.unequal.get(data.layout.table.name)
    if not differing:
        return []
    reason = str(data.layout.table.unequal).strip()
    end = "" if reason.endswith((".", "!", "?")) else "."
    return [f"On unequal terms: {'; '.join(differing)}. Why: {reason}{end}"]


def _precision_notes(present: Sequence[Entry], plan: Plan) -> list[str]:
    """What soft messages are serialised as, where that is not the same and the usual."""
    soft = {e.group.experiment for e in present if plan.loaded.arms[e.group.arm].soft}
    homes: dict[str, list[str]] = {}
    for experiment in plan.loaded.spec.experiment:
        if experiment.name in soft and experiment.latency is None:
            homes.setdefault(experiment.evaluate.precision, []).append(experiment.name)
    if set(homes) <= {Evaluate().precision}:
        return []
    listed = ", ".join(f"{name} ({', '.join(where)})" for name, where in homes.items())
    return [f"Messages at the precision of {listed}."]


def _control_notes(present: Sequence[Entry]) -> list[str]:
    """What each control changes."""
    points = [entry.group.cells[0].point for entry in present]
    names = dict.fromkeys(point[CONTROL] for point in points if CONTROL in point)
    return [f"{CONTROL}={name}: {CONTROLS[name].says}." for name in names]


def _unread_notes(present: Sequence[Entry], plan: Plan) -> list[str]:
    """Which arms could have read the text, and were set not to."""
    blind = {
        f"{entry.group.row} in {entry.group.experiment}": None
        for entry in present
        for job in [plan.expansion.jobs[entry.group.cells[0].evaluate]]
        if job.settings["arm_settings"].get("text") is False
    }
    return [f"Without the text: {', '.join(blind)}."] if blind else []


def _test_notes(data: TableData) -> list[str]:
    """Which tests stand behind bold entries, over how many comparisons they are corrected."""
    compare = data.layout.table.compare
    if compare is None:
        return []
    made = [tested for tested in data.tests.values() if tested.adjusted is not None]
    untested = len(data.tests) - len(made)
    notes = []
    if made:
        names = list(dict.fromkeys(t.comparison.test for t in made if t.comparison))
        notes.append(
            f"Bold: better than {compare.to} (p < {SIGNIFICANT:g} by {' or '.join(names)}, Holm's "
            f"correction over {len(made)} comparisons)."
        )
    if untested:
        reasons = dict.fromkeys(t.why for t in data.tests.values() if t.why)
        notes.append(f"Not tested: {untested} ({'; '.join(reasons)}).")
    return notes
