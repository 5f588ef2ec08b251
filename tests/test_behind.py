"""What is stored behind the training: in order, nothing after a failure, and that is raised."""

from __future__ import annotations

import errno
import os
import time
from threading import Event
from typing import Any

import pytest
from conftest import Project
from incidents import ended, jobs, run_here

from lwspec.engine.runs.runfolder import JobFolder
from lwspec.kernels.training import trainer
from lwspec.kernels.training.behind import Behind


def full(*_: object) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_is_handed_over_is_done_behind_and_in_order() -> None:
    done: list[int] = []
    begin = Event()

    def slowly() -> None:
        begin.wait(5)
        time.sleep(0.05)
        done.append(0)

    with Behind() as behind:
        behind.then(slowly)
        for number in range(1, 20):
            behind.then(lambda number=number: done.append(number))
        assert not done  # whoever handed it over has gone on
        begin.set()
        behind.wait()
        assert done == list(range(20))


def test_after_a_failure_nothing_more_is_done_and_waiting_raises_it() -> None:
    done: list[str] = []
    with Behind() as behind:
        behind.then(lambda: done.append("before"))
        behind.then(full)
        behind.then(lambda: done.append("after"))
        behind.then(lambda: done.append("long after"))
        with pytest.raises(OSError) as raised:
            behind.wait()
    assert raised.value.errno == errno.ENOSPC
    assert done == ["before"]


def test_leaving_waits_for_what_is_left_and_raises_its_failure() -> None:
    begin, done = Event(), list[str]()
    with Behind() as behind:
        behind.then(lambda: begin.wait(0.2))
        behind.then(lambda: done.append("last"))
    assert done == ["last"]
    with pytest.raises(OSError), Behind() as behind:
        behind.then(full)


def test_a_fit_whose_weights_find_no_room_ends_as_disk_and_takes_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.keep("main")
    project.change("seeds = [1, 2]", "seeds = [1]")
    monkeypatch.setattr(trainer, "save_weights", full)
    run_here(project)
    fit = JobFolder(jobs(project, "fit")["bridge colour s1"])
    assert ended(fit)["outcome"] == "disk"
    assert "No space left on device" in ended(fit)["message"]
    assert not fit.taken()
    assert not list(fit.path.glob("attempt-1/outputs/*"))
