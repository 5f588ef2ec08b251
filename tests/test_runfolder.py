"""Attempts belong to whoever made them; an output is taken once, for good."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from lwspec.engine.job import Job
from lwspec.engine.runfolder import JobFolder, Runs, write_json


def begin(path: Path) -> int:
    return JobFolder(path).begin_attempt().number


def offer(path: Path) -> tuple[int, bool]:
    folder = JobFolder(path)
    attempt = folder.begin_attempt()
    return attempt.number, folder.take(attempt, "result", {"by": attempt.number})


def test_two_processes_never_share_an_attempt(tmp_path: Path) -> None:
    with ProcessPoolExecutor(8) as pool:
        numbers = list(pool.map(begin, [tmp_path / "fit-1"] * 64))
    assert sorted(numbers) == list(range(1, 65))


def test_of_many_finished_copies_exactly_one_is_taken(tmp_path: Path) -> None:
    with ProcessPoolExecutor(8) as pool:
        offers = list(pool.map(offer, [tmp_path / "fit-1"] * 32))
    winners = [number for number, taken in offers if taken]
    assert len(winners) == 1
    assert JobFolder(tmp_path / "fit-1").taken()["result"]["attempt"] == winners[0]


def test_an_output_finished_but_not_offered_is_taken_later(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "fit-1")
    attempt = folder.begin_attempt()
    write_json(attempt.outputs / "result.json", {"attempt": 1})
    assert folder.taken() == {}
    folder.take_finished()
    folder.take_finished()
    assert folder.taken()["result"]["attempt"] == 1


def test_a_job_owes_what_is_not_taken(tmp_path: Path) -> None:
    job = Job("fit-1", "fit", "bridge", {}, {}, ("epoch-001", "epoch-002"), "x", {})
    folder = Runs(tmp_path).folder(job.id)
    folder.take(folder.begin_attempt(), "epoch-001", {})
    assert folder.owed(job.outputs) == ["epoch-002"]


def test_a_line_cut_short_is_read_once_it_is_whole(tmp_path: Path) -> None:
    attempt = JobFolder(tmp_path / "fit-1").begin_attempt()
    attempt.append_event("started")
    with (attempt.path / "events.jsonl").open("ab") as file:
        file.write(b'{"event": "prog')
    events, offset = attempt.events()
    assert [event["event"] for event in events] == ["started"]
    with (attempt.path / "events.jsonl").open("ab") as file:
        file.write(b'ress"}\n')
    assert [event["event"] for event in attempt.events(offset)[0]] == ["progress"]


def test_a_grant_forgets_attempts_before_it_whatever_the_clock_says(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "fit-1")
    grant = {"granted_at": time.time() + 10, "allowance_s": 60.0, "charge": 1}  # a clock set back
    write_json(folder.path / "job.json", {**grant, "granted_after": folder.newest()})
    silent, told = folder.begin_attempt(), folder.begin_attempt()
    write_json(silent.path / "exit.json", {"outcome": "code", "device_s": 1.0})
    write_json(told.path / "started.json", {"started_at": time.time()})
    write_json(told.path / "exit.json", {"outcome": "network", "device_s": 2.0})
    assert folder.outcomes() == ["code", "network"]
    assert folder.spent_s() == 3.0
    grant["granted_at"] = time.time() - 10  # a clock set forward
    write_json(folder.path / "job.json", {**grant, "granted_after": folder.newest()})
    assert folder.outcomes() == []
    assert folder.spent_s() == 0.0


def test_an_allowance_is_only_ever_lowered(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "fit-1")
    write_json(folder.path / "job.json", {"granted_at": 5.0, "allowance_s": 60.0})
    folder.limit(90.0)
    assert folder.record()["allowance_s"] == 60.0
    folder.limit(30.0)
    assert folder.record() == {"granted_at": 5.0, "allowance_s": 30.0}
