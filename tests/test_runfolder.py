"""Attempts belong to whoever made them; an output is taken once, for good."""

from __future__ import annotations

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
