"""`lwspec report [SPEC] --paper DIR`: tables, figures, macros and the PDF from the records."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from lwspec.cli.session import Session, open_session
from lwspec.errors import ReportError
from lwspec.report.evidence import read_evidence
from lwspec.report.paper import compile_pdf, write_artefacts
from lwspec.report.query import read_results
from lwspec.report.verify import verify


def main(options: argparse.Namespace) -> int:
    """Write the paper's folder; 1 with --strict where runs are missing."""
    session = open_session(options.spec, options.db, options.runs)
    return report(session, options.paper, strict=options.strict)


def report(session: Session, folder: Path, *, strict: bool) -> int:
    """Render everything that the spec promises, and say what the records could not fill."""
    results = read_results(session.store)
    evidence = read_evidence(session.store, session.plan)
    if not any(job in session.plan.states for job in results.outputs):
        raise ReportError("no run of this spec has finished", remedy="lwspec submit")
    verify(session.plan, results, session.runs.path)
    artefacts = write_artefacts(session.plan, results, evidence, folder)
    for path in artefacts.written:
        print(f"wrote {os.path.relpath(path)}")
    if artefacts.tex is None:
        print("no paper: the spec has no [paper] table")
    else:
        pdf = compile_pdf(artefacts.tex, evidence)
        if pdf is None:
            print("no PDF: latexmk is not installed (Debian: apt-get install latexmk")
            print("  texlive-latex-recommended texlive-fonts-recommended texlive-latex-extra)")
        else:
            print(f"wrote {os.path.relpath(pdf)}")
    for gap in artefacts.gaps:
        print(f"gap: {gap}")
    if artefacts.gaps and strict:
        raise ReportError(f"{len(artefacts.gaps)} gaps", remedy="lwspec submit")
    return 0
