"""The paper's folder: tables, figures, numbers.tex, the filled template, and the PDF."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwspec.engine.plan import Plan
from lwspec.engine.spec import Model
from lwspec.engine.task import Classification, Task
from lwspec.errors import ReportError, nearest
from lwspec.report.evidence import Evidence
from lwspec.report.figures import missing_runs, panels
from lwspec.report.latex import escape
from lwspec.report.macros import Macro, macros, numbers_tex
from lwspec.report.query import Results
from lwspec.report.render import escape_label, latex_table, markdown_table
from lwspec.report.style import draw
from lwspec.report.tables import TableData, caption, table_data

LATEX_TIMEOUT_S = 180


@dataclass(frozen=True)
class Artefacts:
    """What was written, and what the records could not fill."""

    written: tuple[Path, ...]
    gaps: tuple[str, ...]
    tex: Path | None


def write_artefacts(plan: Plan, results: Results, evidence: Evidence, folder: Path) -> Artefacts:
    """Write everything but the PDF; only finished runs leave a number in it."""
    spec = plan.loaded.spec
    tables = [table_data(table, plan, results) for table in spec.table]
    numbers = macros(tables)
    written = [_write(folder / "numbers.tex", numbers_tex(numbers))]
    for data in tables:
        written.append(_write(folder / _table_path(data), latex_table(data, caption(data, plan))))
    written.append(_write(folder / "results.md", _markdown(plan, tables, evidence)))
    gaps = [gap for data in tables for gap in _gaps(data, plan)]
    figures = []
    for figure in spec.figure:
        path = figure.path or f"figures/{figure.name}.pdf"
        lacking = missing_runs(figure, plan, results)
        gaps += [f"figure {figure.name}, {line}" for line in lacking]
        shown = panels(figure, plan, results)
        if not shown:
            (folder / path).unlink(missing_ok=True)
            continue
        draw(shown, folder / path)
        written.append(folder / path)
        figures.append(
            {
                "path": path,
                "caption": escape(figure.caption or figure.name),
                "label": escape_label(figure.name),
            }
        )
    tex = None
    if spec.paper is not None:
        words = _words(plan, tables, figures, numbers, evidence, results)
        tex = _write(folder / f"{spec.name}.tex", _render(plan, words))
        written.append(tex)
    return Artefacts(tuple(written), tuple(gaps), tex)


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _markdown(plan: Plan, tables: Sequence[TableData], evidence: Evidence) -> str:
    """Every table in Markdown, under what stands behind them."""
    said = evidence.summary()
    head = (
        f"# {plan.loaded.spec.name}\n\nWritten by `lwspec report` from {said['jobs']} jobs in "
        f"{said['attempts']} attempts: {said['hours']} hours on {said['hardware']}, commit "
        f"{said['commits']}.\n"
    )
    return "\n".join([head, *(markdown_table(data, caption(data, plan)) for data in tables)])


def _table_path(data: TableData) -> str:
    return data.table.path or f"tables/{data.table.name}.tex"


def _gaps(data: TableData, plan: Plan) -> list[str]:
    """Entries that rest on fewer runs than the spec asks for, and the runs that are missing."""
    lines = []
    for (row, column), entry in data.entries.items():
        if entry.missing:
            labels = ", ".join(plan.expansion.jobs[job].label for job in entry.missing)
            lines.append(
                f"table {data.table.name}, {row}/{column}: {entry.finished} of {entry.planned} "
                f"runs; missing: {labels}"
            )
    return lines


def _words(
    plan: Plan,
    tables: Sequence[TableData],
    figures: Sequence[dict[str, str]],
    numbers: Sequence[Macro],
    evidence: Evidence,
    results: Results,
) -> dict[str, Any]:
    """What a template can name; every text is escaped for LaTeX here."""
    spec = plan.loaded.spec
    return {
        "title": escape(spec.paper.title if spec.paper else spec.name),
        "name": escape(spec.name),
        "tables": [
            {"path": _table_path(data), "label": escape_label(data.table.name)} for data in tables
        ],
        "figures": list(figures),
        "numbers": [
            {
                "macro": f"\\{m.name}",
                "table": escape_label(m.table),
                "row": m.row,
                "column": escape(m.column),
                "kind": m.kind,
            }
            for m in numbers
        ],
        "tasks": [
            {
                "name": escape(name),
                "answers": escape(_answers(task)),
                "sender_prompt": escape(task.sender_prompt.replace("\n", "\\n")),
                "query": escape(task.query),
                "rows": escape(_row_counts(name, plan, results)),
            }
            for name, task in spec.tasks.items()
            if any(name in experiment.tasks for experiment in spec.experiment)
        ],
        "models": [
            {"name": escape(name), "source": escape(_model_source(model))}
            for name, model in spec.models.items()
        ],
        "experiments": [
            {"name": escape(e.name), "arms": escape(", ".join(e.arms)), "seeds": len(e.seeds)}
            for e in spec.experiment
        ],
        "evidence": {key: escape(value) for key, value in evidence.summary().items()},
        "runs": [{key: escape(value) for key, value in run.items()} for run in evidence.listing()],
    }


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


def _render(plan: Plan, words: dict[str, Any]) -> str:
    r"""Fill the template: `\VAR{name}` and `\BLOCK{for ...}`; an unknown name is an error."""
    import jinja2

    assert plan.loaded.spec.paper is not None
    path = plan.loaded.source.path.parent / plan.loaded.spec.paper.template
    environment = jinja2.Environment(
        block_start_string=r"\BLOCK{",
        block_end_string="}",
        variable_start_string=r"\VAR{",
        variable_end_string="}",
        comment_start_string=r"\#{",
        comment_end_string="}",
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        keep_trailing_newline=True,
    )
    try:
        return environment.from_string(path.read_text(encoding="utf-8")).render(words)
    except UnicodeDecodeError as error:
        raise ReportError(f"the template is not UTF-8: {error.reason}", where=str(path)) from None
    except jinja2.TemplateSyntaxError as error:
        raise ReportError(
            f"the template cannot be read: {error.message}", where=f"{path}:{error.lineno}"
        ) from None
    except jinja2.UndefinedError as error:
        name = re.search(r"'([^']*)' is undefined|attribute '([^']*)'", str(error))
        wrong = next((part for part in name.groups() if part), "") if name else ""
        raise ReportError(
            f"the template names something unknown: {error.message}",
            where=str(path),
            nearest=nearest(wrong, words),
            remedy=f"a template can name: {', '.join(sorted(words))}",
        ) from None


def compile_pdf(tex: Path, evidence: Evidence) -> Path | None:
    """Compile with latexmk, or return None where there is none.

    Raises ReportError with LaTeX's first complaint. The PDF's dates are those of the newest
    record, so that the same records give the same bytes.
    """
    if shutil.which("latexmk") is None:
        return None
    date = os.environ.get("SOURCE_DATE_EPOCH", str(int(evidence.newest)))
    with tempfile.TemporaryDirectory() as scratch:
        command = ["latexmk", "-pdf", "-interaction=nonstopmode", "-halt-on-error"]
        command += ["-usepretex", r"-pretex=\pdftrailerid{}", "-no-shell-escape"]
        command += [f"-outdir={scratch}", tex.name]
        try:
            done = subprocess.run(
                command,
                cwd=tex.parent,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=LATEX_TIMEOUT_S,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "SOURCE_DATE_EPOCH": date, "FORCE_SOURCE_DATE": "1"},
            )
        except subprocess.TimeoutExpired:
            raise ReportError(
                f"LaTeX did not end within {LATEX_TIMEOUT_S} s", where=str(tex)
            ) from None
        made = Path(scratch) / tex.with_suffix(".pdf").name
        log = tex.with_suffix(".log")
        log.unlink(missing_ok=True)
        if done.returncode or not made.exists():
            log.write_text(done.stdout, encoding="utf-8")
            errors = [line for line in done.stdout.splitlines() if line.startswith("!")]
            raise ReportError(
                f"LaTeX failed: {errors[0] if errors else 'see the log'}", where=str(log)
            )
        return Path(shutil.copy(made, tex.with_suffix(".pdf")))
