"""`lwspec run SPEC`: submit, wait, report."""

from __future__ import annotations

import argparse

from lwspec.cli import submit
from lwspec.cli.report import report
from lwspec.cli.session import open_session, planning


def main(options: argparse.Namespace) -> int:
    """The one-command way; the report is written even where a job failed, with its gaps shown."""
    with planning(options.spec, options.runs):
        session = open_session(options.spec, options.db, options.runs)
    session.memory.remember_shown(session.plan)
    status = submit.main(options)
    session = open_session(options.spec, options.db, options.runs)
    return max(status, report(session, options.paper, strict=options.strict))
