"""What a template can name; every text is escaped for LaTeX here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lwspec.engine.plan.plan import Plan
from lwspec.engine.spec.spec import Experiment, Model
from lwspec.engine.spec.task import Classification, Task
from lwspec.report.claims import Judged
from lwspec.report.content import Content
from lwspec.report.evidence import Evidence
from lwspec.report.paper.latex import escape, escape_label
from lwspec.report.paper.macros import Macro
from lwspec.report.query import Results
from lwspec.report.refs import name_of


def words(content: Content, numbers: Sequence[tuple[Macro, str]]) -> dict[str, Any]:
    """Everything by name: lists of dictionaries, and a placeholder for each number and claim."""
    plan = content.plan
    spec = plan.loaded.spec
    return {
        **{macro.placeholder: value for macro, value in numbers},
        "title": escape(spec.paper.title if spec.paper else spec.name),
        "name": escape(spec.name),
        "tables": [
            {"path": data.layout.path, "name": data.layout.table.name, "label": label}
            for data in content.tables
            for label in [escape_label(data.layout.table.name)]
        ],
        "figures": [
            {
                "path": shown.path,
                "name": shown.figure.name,
                "caption": escape(shown.figure.caption or shown.figure.name),
                "label": escape_label(shown.figure.name),
            }
            for shown in content.figures
        ],
        "numbers": [_number(macro) for macro, _ in numbers if macro.name and not macro.claim],
        "claims": [_claim(judged) for judged in content.claims],
        "tasks": _tasks(plan, content.results),
        "models": [
            {"name": escape(name), "source": escape(_model_source(model))}
            for name, model in spec.models.items()
        ],
        "experiments": [_experiment(experiment) for experiment in spec.experiment],
        **_evidence(content.evidence),
    }


def _number(macro: Macro) -> dict[str, str]:
    layout, (row, column) = macro.entries[0]
    return {
        "macro": f"\\{macro.name}",
        "entry": escape(name_of(macro.entries[0])),
        "table": escape(layout.table.name),
        "row": escape(row),
        "column": escape(column),
        "kind": macro.kind,
    }


def _claim(judged: Judged) -> dict[str, str]:
    return {
        "name": escape(judged.claim.name),
        "says": escape(judged.claim.says),
        "text": escape(judged.text),
        "verdict": judged.verdict.value,
        "test": escape(judged.test),
        "p": "" if judged.adjusted is None else escape(judged.p_text),
    }


def _tasks(plan: Plan, results: Results) -> list[dict[str, str]]:
    spec = plan.loaded.spec
    used = [name for name in spec.tasks if any(name in e.tasks for e in spec.experiment)]
    return [
        {
            "name": escape(name),
            "answers": escape(_answers(task)),
            "sender_prompt": _typed(task.sender_prompt),
            "query": _typed(task.query),
            "rows": escape(_row_counts(name, plan, results)),
        }
        for name in used
        for task in [spec.tasks[name]]
    ]


def _typed(prompt: str) -> str:
    """A prompt on one line, where \\n ends a line, as in the spec."""
    return escape(prompt.replace("\n", "\\n"))


def _row_counts(task: str, plan: Plan, results: Results) -> str:
    """Rows of each split of a task, and how many were left out for standing in another."""
    for cell in plan.expansion.cells:
        data = plan.expansion.jobs[cell.evaluate].inputs["data"]
        if cell.task == task and data in results.outputs:
            facts = results.outputs[data]["result"].facts
            counts = [f"{name} {facts['rows'][name]:,}" for name in ("train", "validation", "test")]
            return f"{', '.join(counts)}; {facts['left_out']} left out"
    return "not read yet"


def _answers(task: Task) -> str:
    """A task's labels, or that it asks for free text."""
    if isinstance(task, Classification):
        return ", ".join(task.labels)
    return f"free text of at most {task.max_new_tokens} tokens"


def _model_source(model: Model) -> str:
    """A hub id, the name of a local folder, or which toy."""
    if model.path is None:
        return f"built-in toy {model.toy}"
    return Path(model.path).name if model.path.startswith((".", "/")) else model.path


def _experiment(experiment: Experiment) -> dict[str, Any]:
    return {
        "name": escape(experiment.name),
        "group": escape(experiment.group or experiment.name),
        "pair": escape(f"{experiment.sender} to {experiment.receiver}"),
        "arms": escape(", ".join(experiment.arms)),
        "tasks": escape(", ".join(experiment.tasks)),
        "seeds": len(experiment.seeds),
        "plan_only": experiment.plan_only,
    }


def _evidence(evidence: Evidence) -> dict[str, Any]:
    listing: Sequence[Mapping[str, str]] = evidence.listing()
    return {
        "evidence": {key: escape(value) for key, value in evidence.summary().items()},
        "runs": [{key: escape(value) for key, value in run.items()} for run in listing],
    }
