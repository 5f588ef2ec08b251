"""Commands, arms, controls and metrics, from what the code declares."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator

from lwspec.cli.arguments import parser
from lwspec.engine.metrics import METRICS, Metric
from lwspec.engine.spec.controls import CONTROLS
from lwspec.kernels.arms import declarations
from pages.keys import key_table
from pages.text import block, code, rows

REGIMES = {
    "private": "private: the receiver never sees the text",
    "shared": "shared: the receiver sees the text too",
    "reference": "reference: no message, a bound",
}
WIDTH = 88
"""Of usage lines."""


def commands() -> str:
    """A section for each command: its usage and its arguments."""
    (verbs,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return "\n\n".join(_command(name, verb) for name, verb in verbs.choices.items())


def _command(name: str, verb: argparse.ArgumentParser) -> str:
    verb.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=WIDTH)
    listed = [_argument(action) for action in verb._actions if action.dest != "help"]
    table = rows(("argument", "what it does"), listed)
    usage = verb.format_usage().removeprefix("usage: ")
    return f"## lwspec {name}\n\n{verb.description}.\n\n{block(usage)}\n\n{table}"


def _argument(action: argparse.Action) -> tuple[str, str]:
    value = str(action.metavar or action.dest.upper())
    shown = ", ".join(action.option_strings) or value
    if action.option_strings and action.nargs != 0:
        shown += f" {value}"
    said = action.help or ""
    if action.choices:
        said = f"{', '.join(map(code, action.choices))}{'; ' if said else ''}{said}"
    return code(shown), said


def arms() -> str:
    """A section for each arm: its file's docstring, its regime and its settings."""
    return "\n\n".join(_arm(name) for name in sorted(declarations()))


def _arm(name: str) -> str:
    arm = declarations()[name]
    module = importlib.import_module(f"lwspec.kernels.arms.{name}")
    schema = arm.settings.model_json_schema()
    about = (module.__doc__ or "").strip()
    facts = [
        REGIMES[arm.regime],
        "trained" if arm.trained else "not trained",
        "a run for each seed" if arm.seeded else "one run, whatever the seeds",
        "labels and free text" if arm.generates else "labels alone",
        f"reads of a task: {', '.join(map(code, arm.reads)) or 'nothing'}",
    ]
    settings = key_table(schema) if schema.get("properties") else "It has no settings."
    lines = "\n".join(f"- {fact}" for fact in facts)
    return f"## {name}\n\n{about}\n\n{lines}\n\n{settings}"


def controls() -> str:
    """What each control changes, and what it costs."""
    listed = [
        (code(name), control.says, "an evaluation" if control.message else "a fit of its own")
        for name, control in CONTROLS.items()
    ]
    return rows(("control", "what is changed", "it costs"), listed)


def metrics() -> str:
    """Each metric: its heading and unit, what records it and whether less is better."""
    listed = [
        (
            code(name),
            metric.heading,
            metric.unit or "a number",
            ", ".join(_recorded_by(metric)),
            "less" if metric.lower else "more",
        )
        for name, metric in METRICS.items()
    ]
    return rows(("metric", "heading", "unit", "recorded by", "better"), listed)


def _recorded_by(metric: Metric) -> Iterator[str]:
    if metric.timed:
        yield "a timing (`latency`)"
    elif metric.made != "measured":
        yield "the report, in tables"
    else:
        yield " and ".join(metric.kinds)
    if metric.asked:
        yield f"where `evaluate.{metric.asked}` is given"
