"""Attempts belong to whoever made them; an output is taken once, for good."""

from __future__ import annotations

import re
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from lwspec.engine.job import Job
from lwspec.engine.runs.attempt import AttemptFolder
from lwspec.engine.runs.jsonfile import write_json, write_record
from lwspec.engine.runs.runfolder import JobFolder, Runs
from lwspec.errors import RunFolderError
from lwspec.kernels.attempt import Attempt, StopFlag

OUTPUT = {"files": {}, "metrics": {}, "facts": {}, "finished_at": 1.0}


def begin(path: Path) -> int:
    return JobFolder(path).begin_attempt().number


def offer(path: Path) -> tuple[int, bool]:
    folder = JobFolder(path)
    attempt = folder.begin_attempt()
    return attempt.number, folder.take(
        attempt, "result", {**OUTPUT, "facts": {"by": attempt.number}}
    )


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
    write_record(attempt.outputs / "result.json", {**OUTPUT, "job": "fit-1", "attempt": 1})
    assert folder.taken() == {}
    folder.take_finished()
    folder.take_finished()
    assert folder.taken()["result"]["attempt"] == 1


def test_a_job_owes_what_is_not_taken(tmp_path: Path) -> None:
    job = Job("fit-1", "fit", "bridge", {}, {}, ("epoch-001", "epoch-002"), "x", {})
    folder = Runs(tmp_path).folder(job.id)
    folder.take(folder.begin_attempt(), "epoch-001", OUTPUT)
    assert folder.owed(job.outputs) == ["epoch-002"]


def test_a_line_cut_short_is_read_once_it_is_whole(tmp_path: Path) -> None:
    attempt = JobFolder(tmp_path / "fit-1").begin_attempt()
    attempt.append_event("started")
    with (attempt.path / "events.jsonl").open("ab") as file:
        file.write(b'{"event": "prog')
    events, offset = attempt.events()
    assert [event["event"] for event in events] == ["started"]
    with (attempt.path / "events.jsonl").open("ab") as file:
        file.write(b'ress", "done": 1, "total": 2, "what": "rows", "time": 1.0}\n')
    assert [event["event"] for event in attempt.events(offset)[0]] == ["progress"]


JOB = Job("fit-1", "fit", "bridge", {}, {}, ("epoch-001",), "bridge", {})


def grant(folder: JobFolder, at: float) -> None:
    granted = {"granted_at": at, "granted_after": folder.newest(), "allowance_s": 60.0}
    write_json(folder.path / "job.json", {**JOB.to_json(), **granted})


def ended(attempt: AttemptFolder, outcome: str, device_s: float) -> None:
    record = {"outcome": outcome, "ended_at": time.time(), "wall_s": 1.0, "device_s": device_s}
    attempt.end(record)


def test_a_grant_forgets_attempts_before_it_whatever_the_clock_says(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "fit-1")
    grant(folder, time.time() + 10)  # a clock set back
    silent, told = folder.begin_attempt(), folder.begin_attempt()
    ended(silent, "code", 1.0)
    write_json(told.path / "started.json", {"job": "fit-1", "started_at": time.time()})
    ended(told, "network", 2.0)
    assert folder.outcomes() == ["code", "network"]
    assert folder.spent_s() == 3.0
    grant(folder, time.time() - 10)  # a clock set forward
    assert folder.outcomes() == []
    assert folder.spent_s() == 0.0


def test_an_allowance_is_only_ever_lowered(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "fit-1")
    grant(folder, 5.0)
    before = folder.record()
    folder.limit(90.0)
    assert folder.record()["allowance_s"] == 60.0
    folder.limit(30.0)
    assert folder.record() == {**before, "allowance_s": 30.0}


def test_a_grant_of_an_earlier_lwspec_forgets_attempts_before_it(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "fit-1")
    for at, outcomes in ((time.time() - 60, ["code"]), (time.time() + 60, [])):
        granted = {"granted_at": at, "allowance_s": 60.0}
        write_json(folder.path / "job.json", {**JOB.to_json(), **granted})
        if not folder.attempts():
            ended(folder.begin_attempt(), "code", 1.0)
        assert folder.outcomes() == outcomes


def test_what_an_attempt_offers_is_a_line_of_its_log(tmp_path: Path) -> None:
    job = Job("fit-x", "fit", "bridge", {}, {}, ("epoch-001", "epoch-002"), "x", {})
    runs = Runs(tmp_path)
    attempt = Attempt(job, runs.folder(job.id).begin_attempt(), runs, StopFlag(), 60.0)
    for step in range(500):
        attempt.progress(step, 1000, "epoch 1")
    attempt.take("epoch-001", [], {"train_loss": 0.693147, "accuracy": 0.5, "f1": None}, {})
    attempt.take("epoch-002", [], {}, {})
    first, second = (attempt.path / "log.txt").read_text().splitlines()
    assert re.fullmatch(r"epoch-001 after [0-9.]+ s: train_loss 0\.6931, accuracy 0\.5", first)
    assert re.fullmatch(r"epoch-002 after [0-9.]+ s", second)


def test_a_person_s_last_word_counts_whatever_the_clocks_say(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "fit-1")
    record = {**JOB.to_json(), "granted_at": time.time() + 3600, "allowance_s": 60.0}
    for _ in range(2):
        folder.grant(record)
        assert not folder.cancelled()
        folder.cancel()
        assert folder.cancelled()


def test_records_of_an_earlier_lwspec_name_no_job(tmp_path: Path) -> None:
    attempt = JobFolder(tmp_path / "fit-1").begin_attempt()
    record = {"outcome": "code", "ended_at": 1.0, "wall_s": 1.0, "device_s": 1.0}
    write_json(attempt.path / "exit.json", record)
    assert attempt.ended() == record  # it failed before it said who ran it
    write_json(attempt.path / "started.json", {"started_at": 0.0})
    assert attempt.ended() == record
    write_json(attempt.path / "started.json", {"started_at": 0.0, "job": "fit-1"})
    with pytest.raises(RunFolderError, match="no job"):
        attempt.ended()
