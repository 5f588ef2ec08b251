"""Which jobs share a process, and which process begins first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from conftest import Project

from lwspec.cli import main
from lwspec.engine.job import Job
from lwspec.engine.plan.pack import Pack, longest_first, packs
from lwspec.errors import UsageError


def job(name: str, kind: Any = "evaluate", **inputs: str) -> Job:
    settings = {"models": {"receiver": {"path": "m"}}}
    reads = {role: ("result",) for role in inputs}
    return Job(name, kind, "truncated", settings, inputs, (), name, reads)


def together(*jobs: Job, side_by_side: int = 1) -> list[list[str]]:
    return [[job.id for job in pack.jobs] for pack in packs(jobs, side_by_side)]


def test_an_evaluation_without_a_fit_bears_the_start_of_its_own_process() -> None:
    assert together(job("a", data="news"), job("b", data="news")) == [["a"], ["b"]]


def test_an_evaluation_joins_its_fit_and_one_of_a_text_waits_for_it_apart() -> None:
    jobs = [
        job("fit", "fit", data="news"),
        job("of fit", data="news", fit="fit"),
        job("of text", data="news", text="texts"),
        job("timed", "latency", data="news"),
        job("neither", data="news"),
    ]
    assert together(*jobs) == [["fit", "of fit"], ["of text"], ["timed"], ["neither"]]


def pack(name: str, **inputs: str) -> Pack:
    return Pack(name, (job(name, **inputs),))


def test_what_the_longest_chain_of_work_waits_for_is_begun_first() -> None:
    packed = [
        pack("short"),
        pack("middle"),
        pack("first"),
        pack("second", fit="first"),
        pack("third", fit="second", data="recorded long ago"),
    ]
    hours = {"short": 1.0, "middle": 4.0, "first": 0.5, "second": 1.0, "third": 3.0}
    begun = [each.id for each in longest_first(packed, hours)]
    assert begun == ["first", "middle", "second", "third", "short"]


def test_packs_as_long_stay_in_the_order_of_the_spec() -> None:
    packed = [pack("b"), pack("a"), pack("c")]
    assert longest_first(packed, {"a": 0.0, "b": 0.0, "c": 0.0}) == packed


def test_submit_begins_what_takes_longest_wherever_it_stands_in_the_spec(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = '[[experiment]]\nname = "direct"\narms = ["no_message"]\n\n'
    project.keep("main", "direct")
    project.change('[[experiment]]\nname = "main"', f'{direct}[[experiment]]\nname = "main"')
    project.change(
        'name = "direct"\narms = ["sender_direct"', 'name = "more"\narms = ["sender_direct"'
    )
    begun: list[str] = []

    def note(runs: Any, todo: Sequence[Pack], *rest: Any, **more: Any) -> None:
        begun.extend(pack.jobs[0].label for pack in todo)
        raise UsageError("noted", remedy="none")

    monkeypatch.chdir(project.folder)
    monkeypatch.setattr("lwspec.cli.submit.LocalExecutor", note)
    assert main(["plan", "small.toml"]) == 0
    assert main(["submit"]) == UsageError.exit_status
    assert begun.index("bridge colour s2") < begun.index("no_message colour")
