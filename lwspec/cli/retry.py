"""`lwspec retry [SPEC]`: submit what failed, was lost or was cancelled, and what waits for it."""

from __future__ import annotations

import argparse

from lwspec.cli.agree import agree_again
from lwspec.cli.submit import start


def main(options: argparse.Namespace) -> int:
    """Grant the jobs anew and start them, with what they need."""
    return start(options, agree_again)
