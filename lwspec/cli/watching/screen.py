"""A view as lines of text that fit a terminal, and as lines of what has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text

from lwspec.cli.watching.pace import Pace
from lwspec.cli.watching.view import Failure, Progress, View
from lwspec.engine.runs.states import State

BAR = 12
LABEL = 36
"""The widest column of labels."""
TOLD = (State.RUNNING, State.FAILED, State.DONE, State.CANCELLED, State.LOST, State.INTERRUPTED)
"""Changes into these states are told; the others follow from them."""


def screen(view: View, width: int, height: int, *, ascii_only: bool = False) -> list[Text]:
    """The view in at most `height` lines of at most `width` columns."""
    head = [Text(_headline(view), style="bold"), Text(_budget(view))]
    names = _width([each.name for each in view.experiments])
    labels = _width([name for name, _ in view.running])
    blocks = {
        "experiment": [_experiment(each, names, ascii_only) for each in view.experiments],
        "running": [Text(f"{_label(name, labels)}  {_at(pace)}") for name, pace in view.running],
        "failed": [line for failure in view.failures for line in _failure(failure)],
        "note": [Text(note, style="yellow") for note in view.notes],
    }
    there = {name: lines for name, lines in blocks.items() if lines}
    rooms = share_out([len(lines) for lines in there.values()], height - 2 - 2 * len(there))
    if sum(rooms) < sum(map(len, there.values())):  # what is done is left out first
        unfinished = sorted(view.experiments, key=lambda each: each.share == 1.0)
        there["experiment"] = [_experiment(each, names, ascii_only) for each in unfinished]
    lines = head
    for (name, block), room in zip(there.items(), rooms, strict=True):
        title = f"{name:<{names}}  done/jobs{'left':>{BAR + 12}}" if name == "experiment" else name
        lines += [Text(), Text(title, style="dim"), *_cut(block, room)]
    for line in lines:
        line.truncate(width, overflow="crop" if ascii_only else "ellipsis")
    return lines[:height]


def share_out(wanted: Sequence[int], room: int) -> list[int]:
    """Lines for each of some blocks: all that it wants, or as many as others that want more."""
    given = [0] * len(wanted)
    while room > 0 and given != list(wanted):
        for n, most in enumerate(wanted):
            if given[n] < most and room > 0:
                given[n] += 1
                room -= 1
    return given


def _cut(block: Sequence[Text], room: int) -> list[Text]:
    if len(block) <= room:
        return list(block)
    kept = max(0, room - 1)
    return [*block[:kept], Text(f"and {len(block) - kept} more", style="dim")]


def changes(before: Mapping[str, State] | None, view: View) -> list[str]:
    """A line for each job whose state has changed; at first, for each that did not go well."""
    counts, failures = view.counts, {failure.label: failure for failure in view.failures}
    whole = f"{counts[State.DONE]} of {len(view.states)} done"
    lines = [f"{_headline(view)} · {_budget(view)}"] if before is None else []
    for name, state in view.states.items():
        if state not in TOLD or (before or {}).get(name) == state:
            continue
        if before is None and state == State.DONE:
            continue
        failure = failures.get(name)
        why = "" if failure is None else f" [{failure.kind}] {failure.message or failure.log}"
        lines.append(f"{state:<11} {name}{why} ({whole})")
    return lines


def duration(seconds: float) -> str:
    """A time to wait, as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def _headline(view: View) -> str:
    counts = view.counts
    parts = [view.spec, f"{counts[State.DONE]} of {len(view.states)} jobs done"]
    others = (state for state in State if state not in (State.DONE, State.WAITING))
    parts += [f"{counts[state]} {state}" for state in others if counts[state]]
    if view.left_s is not None:
        parts.append(f"about {duration(view.left_s)} left")
    return " · ".join(parts)


def _budget(view: View) -> str:
    return (
        f"hours of {view.unit}: {view.spent_hours:.3f} spent of {view.budget_hours:.2f} · "
        f"{view.free_hours:.2f} left · {view.reserved_hours:.2f} reserved · "
        f"{view.to_run_hours:.2f} to run"
    )


def _experiment(progress: Progress, names: int, ascii_only: bool) -> Text:
    counts, total = progress.counts, sum(progress.counts.values())
    full, empty = "#-" if ascii_only else "█░"
    filled = int(BAR * progress.share)
    line = Text(f"{_label(progress.name, names)}  {counts.get(State.DONE, 0):>4}/{total:<4} ")
    line.append(full * filled + empty * (BAR - filled), "green" if progress.share == 1.0 else "")
    line.append(f" {100 * progress.share:3.0f}%")
    if progress.left_s is not None:
        line.append(f"  {duration(progress.left_s)}")
    if counts.get(State.FAILED):
        line.append(f"  {counts[State.FAILED]} failed", "red")
    return line


def _failure(failure: Failure) -> list[Text]:
    line = Text(f"{failure.label} ")
    line.append(f"[{failure.kind}]", "red")
    line.append(f" {failure.message}")
    return [line, Text(f"  {failure.log}", style="dim")] if failure.log else [line]


def _at(pace: Pace | None) -> str:
    if pace is None:
        return "starting"
    left = "" if pace.left_s is None else f", {duration(pace.left_s)}"
    return f"{pace}{left}"


def _width(labels: Sequence[str]) -> int:
    """Of a column of labels."""
    return min(LABEL, max(map(len, (*labels, "experiment"))))


def _label(text: str, width: int) -> str:
    short = text if len(text) <= width else f"{text[: width - 2]}.."
    return f"{short:<{width}}"
