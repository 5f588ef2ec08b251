"""`lwspec report [SPEC] --paper DIR --html FILE`: the paper and the page, from the records."""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lwspec.cli.session import Session, open_session
from lwspec.errors import ReportError
from lwspec.report.content import Content, make_content
from lwspec.report.evidence import Evidence, read_evidence
from lwspec.report.markdown import reported
from lwspec.report.numbers import Numbers
from lwspec.report.page.write import check_path, write_page
from lwspec.report.paper.pdf import compile_pdf
from lwspec.report.paper.write import Written, write_paper
from lwspec.report.query import read_results
from lwspec.report.verify import verify

PAPER = Path("paper")
"""Where the paper is written, unless told otherwise."""


def main(options: argparse.Namespace) -> int:
    """Write the paper's folder, the page, or both; 1 with --strict where runs are missing."""
    if options.html is not None:
        check_path(options.html)
    folder = PAPER if options.paper is None and options.html is None else options.paper
    session = open_session(options.spec, options.db, options.runs, rescan=options.rescan)
    ended = report(session, folder, strict=options.strict, page=options.html)
    if folder is None and PAPER.is_dir():
        print(f"{PAPER}/ was left as it was: add --paper {PAPER}")
    return ended


@dataclass(frozen=True)
class Rendered:
    """What a report wrote, and of what."""

    content: Content
    paper: Written | None
    pdf: Path | None
    """None where LaTeX is not installed, or the spec has no paper."""
    page: Path | None


def report(session: Session, folder: Path | None, *, strict: bool, page: Path | None = None) -> int:
    """Render everything that the spec promises, and say what the records could not fill."""
    before = None if folder is None else reported(folder)
    rendered = render(session, folder, page)
    if before not in (None, session.loaded.spec.name):
        print(f"{folder}/ held the report of {before}, which this replaces: --paper names another")
    if page is not None:
        print(f"wrote {os.path.relpath(page)}")
    if rendered.paper is not None:
        _say_written(rendered.paper, rendered.pdf)
    for judged in rendered.content.claims:
        print(f"claim {judged.claim.name}: {judged.verdict.value} {judged.p_text or judged.why}")
    for gap in rendered.content.gaps:
        print(f"gap: {gap}")
    if strict:
        check_complete(rendered.content)
    return 0


def render(session: Session, folder: Path | None, page: Path | None) -> Rendered:
    """Write the paper's folder, the page, or both. Raises ReportError where nothing has run."""
    content = read_content(session)
    if not any(job in session.plan.states for job in content.results.outputs):
        raise ReportError("no run of this spec has finished", remedy="lwspec submit")
    paper = None if folder is None else write_paper(content, folder)
    with ThreadPoolExecutor(1) as beside:  # LaTeX is a process of its own: the page need not wait
        compiling = None
        if paper is not None and paper.tex is not None:
            made_before = session.runs.path / "cache" / "pdf.json"
            compiling = beside.submit(compile_pdf, paper.tex, content.evidence.newest, made_before)
        if page is not None:
            write_page(content, page)
    return Rendered(content, paper, compiling.result() if compiling else None, page)


def check_complete(content: Content) -> None:
    """Raise ReportError where a number rests on fewer runs than the spec asks for."""
    if content.gaps:
        count = len(content.gaps)
        raise ReportError("1 gap" if count == 1 else f"{count} gaps", remedy="lwspec submit")


def _say_written(paper: Written, pdf: Path | None) -> None:
    """What was written of the paper, or why there is no PDF."""
    for path in paper.paths:
        print(f"wrote {os.path.relpath(path)}")
    if paper.by_hand:
        print(f"by hand: no record stands behind {len(paper.by_hand)} numbers or pictures of the")
        print("  paper's own: lwspec plan lists them")
    if paper.tex is None:
        print("no paper: the spec has no [paper] table")
    elif pdf is None:
        print("no PDF: latexmk is not installed (Debian: apt-get install latexmk")
        print("  texlive-latex-recommended texlive-fonts-recommended texlive-latex-extra)")
    else:
        print(f"wrote {os.path.relpath(pdf)}")


def read_content(session: Session) -> Content:
    """Everything that the report shows. Raises ReportError for a file that has changed."""
    numbers, evidence = read_numbers(session)
    content = make_content(session.plan, numbers, evidence)
    numbers.save()
    return content


def read_numbers(session: Session) -> tuple[Numbers, Evidence]:
    """What was recorded, and what stands behind it, held against the files.

    Raises ReportError for a finished job that could not be recorded: its number would be missing.
    """
    for problem in session.problems:
        job = session.plan.expansion.jobs.get(problem.job or "")
        if job is not None and session.runs.folder(job.id).has_taken():
            raise ReportError(problem.what, where=problem.where, remedy=problem.remedy)
    results = read_results(session.store)
    evidence = read_evidence(session.store, session.plan, session.runs.path)
    verify(session.plan, results, evidence, session.runs.path)
    return Numbers(session.plan, results, session.runs.path), evidence
