"""What the local executor starts beside what, and which GPUs it gives to whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lwspec.engine.executors import local
from lwspec.engine.executors.local import LocalExecutor, Running, Slots, gpu_ids
from lwspec.engine.job import Job
from lwspec.engine.plan.pack import Pack
from lwspec.engine.runs.runfolder import Runs
from lwspec.engine.spec.spec import Retries


def pack(kind: Any, number: int = 1, gpus: int = 0) -> Pack:
    job = Job(f"{kind}-{number}", kind, "bridge", {}, {}, (), kind, {}, gpus=gpus)
    return Pack(job.id, (job,))


def test_nothing_starts_beside_a_timing(tmp_path: Path) -> None:
    executor = LocalExecutor(Runs(tmp_path), [], Slots(2, ()), 1.0, Retries(), fork=True)
    assert executor._startable(pack("latency"))
    executor._running = [Running(pack("fit"), None, (), 0)]
    assert not executor._startable(pack("latency"))
    executor._running = [Running(pack("latency"), None, (), 0)]
    assert not executor._startable(pack("fit"))


def test_every_process_has_gpus_of_its_own_and_the_rest_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    started: list[str] = []

    def child(folders: Any, environment: dict[str, str], log: Path, *, forked: bool) -> None:
        started.append(environment["CUDA_VISIBLE_DEVICES"])

    monkeypatch.setattr(local, "start_child", child)
    packs = [pack("fit", number, gpus=1) for number in range(3)]
    executor = LocalExecutor(Runs(tmp_path), packs, Slots(8, gpu_ids()), 1.0, Retries(), fork=True)
    executor._start_what_can()
    assert started == ["4", "7"]
    assert executor._waiting == packs[2:]
