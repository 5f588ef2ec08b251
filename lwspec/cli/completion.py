"""`lwspec completion SHELL`: what a shell evaluates to complete verbs, options, specs and jobs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import argcomplete
from argcomplete.completers import BaseCompleter, DirectoriesCompleter, FilesCompleter
from argcomplete.shell_integration import shellcode

from lwspec.engine.executors.submit import PlanMemory
from lwspec.engine.runs.runfolder import Runs


def main(options: argparse.Namespace) -> int:
    """Print the shell's code."""
    print(shellcode(["lwspec"], shell=options.shell))
    return 0


def answer(parser: argparse.ArgumentParser) -> None:
    """Tell the shell that asked what could stand at its cursor, and exit."""
    argcomplete.autocomplete(parser, always_complete_options=False, default_completer=_Values())


class _Values(BaseCompleter):
    """What an argument could be, by what it is called."""

    def __call__(
        self,
        *,
        prefix: str,
        action: argparse.Action,
        parser: argparse.ArgumentParser,
        parsed_args: argparse.Namespace,
    ) -> Iterable[str]:
        if action.dest in ("ref", "only"):
            return labels(parsed_args.runs)
        if action.dest == "spec":
            return list(FilesCompleter(("toml",))(prefix))
        if action.dest in ("runs", "paper"):
            return list(DirectoriesCompleter()(prefix))
        if action.dest in ("db", "html", "sender", "receiver"):
            return list(FilesCompleter()(prefix))
        return ()


def labels(runs: Path) -> list[str]:
    """Kind and label of every job of the plan that was shown last; none where none was."""
    plan = PlanMemory(Runs(runs)).shown_last()
    return [f"{job['kind']} {job['label']}" for job in plan["jobs"].values()] if plan else []
