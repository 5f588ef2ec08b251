"""The paper's folder: tables, figures, numbers.tex, and the filled template."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lwspec.engine.spec.artefacts import Paper
from lwspec.errors import ReportError
from lwspec.report.content import Content, FigureData
from lwspec.report.figures.draw import draw, draw_missing
from lwspec.report.markdown import results_md
from lwspec.report.paper.by_hand import by_hand
from lwspec.report.paper.contract import NUMBERS, Complaint, fill_known, said_by_spec, unsaid
from lwspec.report.paper.macros import macros, numbers_tex, values
from lwspec.report.paper.template import Filled
from lwspec.report.paper.words import words
from lwspec.report.refs import pairs_of
from lwspec.report.tables.caption import caption
from lwspec.report.tables.latex import latex_table
from lwspec.report.tables.notes import notes
from lwspec.report.tables.plain import csv_table, csv_tests


@dataclass(frozen=True)
class Written:
    """What was written, and the paper's LaTeX where the spec has a paper."""

    paths: tuple[Path, ...]
    tex: Path | None
    by_hand: tuple[Complaint, ...] = ()
    """What the paper shows that no record made."""


def write_paper(content: Content, folder: Path) -> Written:
    """Write everything but the PDF; only finished runs leave a number in it.

    Raises ReportError, with nothing written, where the paper says what the records do not bear out.
    """
    plan = content.plan
    layouts = [data.layout for data in content.tables]
    numbers = values(macros(plan, layouts, pairs_of(plan, layouts)), content)
    texts = {NUMBERS: numbers_tex(numbers), **_tables(content), "results.md": results_md(content)}
    filled = None
    if plan.loaded.spec.paper is not None:
        template = plan.loaded.source.path.parent / plan.loaded.spec.paper.template
        artefacts = {*texts, *(shown.path for shown in content.figures)}
        goes_to = f"{plan.loaded.spec.stem}.tex"
        filled, complaints = fill_known(template, goes_to, words(content, numbers), artefacts)
        _refuse([*complaints, *_unsaid(filled, texts, content, plan.loaded.spec.paper)])
        texts |= _parts(filled, folder)
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    drawn = [_draw(shown, folder) for shown in content.figures]
    if filled is None:
        return Written(tuple([*(folder / path for path in texts), *drawn]), None)
    copied = [_copy(source, folder / path) for path, source in filled.beside.items()]
    written = [*(folder / path for path in texts), *drawn, *copied]
    return Written(tuple(written), folder / filled.parts[0].path, tuple(by_hand(filled)))


def _tables(content: Content) -> dict[str, str]:
    """Every table as LaTeX and, beside it, as CSV with its tests."""
    texts = {}
    for data in content.tables:
        tex, csv, tests = data.layout.table.files
        texts[tex] = latex_table(data, caption(data), notes(data, content.plan, content.evidence))
        texts[csv] = csv_table(data)
        if data.tests:
            texts[tests] = csv_tests(data)
    return texts


def _unsaid(
    filled: Filled, texts: Mapping[str, str], content: Content, paper: Paper
) -> list[Complaint]:
    latex = {path: text for path, text in texts.items() if path.endswith(".tex")}
    said, spec = said_by_spec(content), content.plan.loaded.source
    return unsaid(filled, latex, content.claims, paper.never, said, spec)


def _refuse(complaints: Sequence[Complaint]) -> None:
    if complaints:
        raise ReportError(
            "the paper and the records disagree\n" + "\n".join(f"  {each}" for each in complaints),
            remedy="mend the template or the spec; before anything runs, lwspec plan says what "
            "nothing fills and where words of [paper] never stand",
        )


def _parts(filled: Filled, folder: Path) -> dict[str, str]:
    for part in filled.parts:
        goes_to = folder / part.path
        if goes_to.exists() and goes_to.samefile(part.source):
            raise ReportError(
                "the paper would be written over its own template",
                where=str(part.source),
                remedy="report into another folder: lwspec report --paper DIR",
            )
    return {part.path: part.text for part in filled.parts}


def _draw(shown: FigureData, folder: Path) -> Path:
    path = folder / shown.path
    path.parent.mkdir(parents=True, exist_ok=True)
    if shown.panels:
        draw(shown.panels, path)
    else:
        draw_missing(len(shown.missing), path)
    return path


def _copy(source: Path, goes_to: Path) -> Path:
    goes_to.parent.mkdir(parents=True, exist_ok=True)
    if not (goes_to.exists() and goes_to.samefile(source)):
        shutil.copyfile(source, goes_to)
    return goes_to
