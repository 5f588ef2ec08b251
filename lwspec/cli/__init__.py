"""The command line: `main` reads the arguments, one module a verb does the work."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from lwspec.cli.arguments import parse, parser
from lwspec.cli.terminal import printable
from lwspec.engine.modes import keep_the_world_out
from lwspec.engine.redact import redact
from lwspec.errors import LwspecError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    whole = parser()
    if "_ARGCOMPLETE" in os.environ:
        from lwspec.cli.completion import answer  # argcomplete is for shells that ask

        answer(whole)
    options = parse(whole, arguments)
    keep_the_world_out()
    try:
        verb = import_module(f"lwspec.cli.{options.verb}")
        status: int = verb.main(options)
    except LwspecError as error:
        print(f"lwspec: {printable(redact(str(error)))}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        what = printable(redact(f"{error.filename or 'writing'}: {error.strerror or error}"))
        print(
            f"lwspec: {what}\n"
            "  next: mend the path, its permissions or the disk; then the same command goes on",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("lwspec: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return status
