"""Fits that are trained side by side: each as it would be alone, and lost alone."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Project
from pyarrow import parquet
from safetensors.torch import load_file

from lwspec.engine.runs.jsonfile import read_json, write_json
from lwspec.engine.runs.runfolder import JobFolder
from lwspec.kernels import run
from lwspec.kernels.arm import Setup
from lwspec.kernels.arms import lora
from lwspec.kernels.attempt import StopFlag
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.training import receiver_pass
from lwspec.kernels.training.loss import Counts
from lwspec.kernels.training.receiver_pass import Ask, answer
from lwspec.kernels.training.trainer import Trainer

PLAIN = {
    "supervised_tokens": None,
    "first_token_weight": 0.0,
    "distillation": 0.0,
    "distillation_temperature": 2.0,
}


def batches(reader: Reader) -> tuple[list[Ask], list[torch.Tensor]]:
    """Three batches of other lengths, and their soft messages."""
    source, soft, asked = torch.Generator().manual_seed(0), [], []
    for rows, said in ((4, [5, 9, 1]), (1, [6, 1]), (3, [7, 8, 4, 1])):
        start = torch.randn(rows, 3, reader.width, generator=source)
        leaves = [row.requires_grad_() for row in start.unbind()]
        prompts = [[reader.encode("red " * (n + 1)), leaf] for n, leaf in enumerate(leaves)]
        counts = Counts(rows * len(said), rows)
        asked.append(Ask(reader, prompts, [said] * rows, counts, PLAIN, None, leaves, 2))
        soft += leaves
    return asked, soft


def told(reader: Reader, together: bool) -> tuple[list[float], list[torch.Tensor], bool]:
    asked, soft = batches(reader)
    found, still = answer(asked, together)
    losses = [float(each.loss) for each in found if not isinstance(each, Exception)]
    return losses, [row.grad for row in soft if row.grad is not None], still


@pytest.fixture
def reader(world: Path) -> Reader:
    return Reader.load(world / "models/mistral", "float32", None, torch.device("cpu"))


def test_batches_in_one_pass_have_the_losses_and_gradients_of_each_alone(reader: Reader) -> None:
    apart, together = told(reader, False), told(reader, True)
    assert together[0] == pytest.approx(apart[0], rel=1e-5)
    assert len(together[1]) == 8
    for one, other in zip(together[1], apart[1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_what_does_not_fit_together_is_asked_apart_from_then_on(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, answer_logits = told(reader, True), receiver_pass.answer_logits

    def scarce(reader: Reader, asked: Any, answers: Any) -> Any:
        if len(asked) == 3:  # in the second round, after gradients were sent
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answer_logits(reader, asked, answers)

    monkeypatch.setattr(receiver_pass, "answer_logits", scarce)
    losses, gradients, still = told(reader, True)
    assert not still
    assert losses == pytest.approx(whole[0], rel=1e-5)
    for one, other in zip(gradients, whole[1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_gradients_at_adapters_in_the_reader_are_forgotten_too(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory runs out half-way, and again less rows are asked: nothing is counted twice."""
    module = lora.build(Setup(lora.Settings(), {}, reader, None))
    trained = list(module.parameters())
    prompts = [[reader.encode("red " * n)] for n in (1, 2, 3, 4)]
    asked = Ask(reader, prompts, [[5, 1]] * 4, Counts(8, 4), PLAIN, None, trained, 4)
    gradients: list[list[torch.Tensor]] = []
    answer_logits, calls = receiver_pass.answer_logits, 0

    def scarce(reader: Reader, asked: Any, answers: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answer_logits(reader, asked, answers)

    for rows, scarcely in ((4, False), (3, True)):
        if scarcely:
            calls = 1
            monkeypatch.setattr(receiver_pass, "answer_logits", scarce)
        for weight in trained:
            weight.grad = None
        (found,), _ = answer([replace(asked, rows_at_once=rows)], False)
        assert not isinstance(found, Exception)
        gradients.append([weight.grad for weight in trained if weight.grad is not None])
    assert found.rows_at_once == 2
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_a_batch_that_cannot_be_answered_is_told_so_alone(reader: Reader) -> None:
    asked, _ = batches(reader)
    asked[1].prompts[0][0].extend([5] * (reader.context or 0))  # longer than the model reads
    found, still = answer(asked, True)
    assert [isinstance(each, Exception) for each in found] == [False, True, False]
    assert still


@pytest.fixture
def two(tmp_path: Path, world: Path) -> list[Project]:
    """Two projects of three seeds of the bridge, and nothing else."""
    made = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        project = Project(tmp_path / name, world)
        project.keep("main")
        project.change("seeds = [1, 2]", "seeds = [1, 2, 3]")
        project.change("[resources]", "[resources]\nside_by_side = 3")
        made.append(project)
    return made


def fits(project: Project) -> dict[str, Path]:
    """The folders of fits, by label."""
    return {read_json(p / "job.json")["label"]: p for p in sorted(project.runs.glob("fit-*"))}


def weights(fit: Path, attempt: int = 1) -> dict[str, torch.Tensor]:
    """A fit's weights after its last epoch."""
    return load_file(fit / f"attempt-{attempt}/weights/epoch-002.safetensors")


def predictions(project: Project) -> dict[str, list[Any]]:
    found = {}
    for path in project.runs.glob("evaluate-*"):
        table = parquet.read_table(path / "attempt-1/predictions/test.parquet")
        found[read_json(path / "job.json")["label"]] = table["predicted"].to_pylist()
    return found


def test_seeds_side_by_side_end_as_each_alone(two: list[Project]) -> None:
    together, alone = two
    alone.change("side_by_side = 3", "side_by_side = 1")
    for project, beside in ((together, 3), (alone, 1)):
        project.run("submit", "small.toml", "--yes")
        started = [
            read_json(f / "attempt-1/started.json")["evidence"] for f in fits(project).values()
        ]
        assert [each["side_by_side"] for each in started] == [beside] * 3
    for label, fit in fits(together).items():
        other = weights(fits(alone)[label])
        for key, weight in weights(fit).items():
            torch.testing.assert_close(weight, other[key], atol=1e-4, rtol=1e-3)
    assert len(predictions(together)) == 3
    assert predictions(together) == predictions(alone)


@pytest.fixture
def again(two: list[Project], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[JobFolder]]:
    """Three fits that have run side by side, to be run once more in this process."""
    two[0].run("submit", "small.toml", "--yes")
    folders = [JobFolder(fit) for fit in fits(two[0]).values()]
    for folder in folders:
        shutil.rmtree(folder.path / "taken")
    threads = torch.get_num_threads()
    yield folders
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def test_a_fit_that_fails_is_lost_alone_and_each_pays_its_share(
    again: list[JobFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Trainer._finish_epoch

    def failing(self: Trainer, progress: Any, behind: Any) -> None:
        if self.seed == 2:
            raise ValueError("the second seed fails")
        finish(self, progress, behind)

    monkeypatch.setattr(Trainer, "_finish_epoch", failing)
    for folder in again:
        shutil.rmtree(folder.path / "attempt-1/checkpoints")
    began = time.monotonic()
    assert not run.run_jobs(again, StopFlag())
    whole_s = time.monotonic() - began
    ends = [read_json(folder.path / "attempt-2/exit.json") for folder in again]
    assert [end["outcome"] for end in ends] == ["finished", "code", "finished"]
    for folder in (again[0], again[2]):
        before = weights(folder.path)
        for key, weight in weights(folder.path, 2).items():
            torch.testing.assert_close(weight, before[key], atol=1e-4, rtol=1e-3)
    for paid in ("wall_s", "device_s"):
        assert 0.7 * whole_s < sum(end[paid] for end in ends) <= whole_s


def test_one_damaged_folder_keeps_no_other_from_running(
    again: list[JobFolder], capfd: pytest.CaptureFixture[str]
) -> None:
    for folder in again:
        shutil.rmtree(folder.path / "attempt-1/checkpoints")
    (again[1].path / "attempt-1/exit.json").write_text("{")
    assert not run.run_jobs(again, StopFlag())
    assert "exit.json" in capfd.readouterr().err
    made = [sorted(path.stem for path in (f.path / "taken").glob("*")) for f in again]
    assert made == [["epoch-001", "epoch-002"], [], ["epoch-001", "epoch-002"]]


def test_only_what_differs_in_seed_alone_is_trained_side_by_side(again: list[JobFolder]) -> None:
    first, *others = again
    record = first.record()
    write_json(first.path / "job.json", {**record, "settings": {**record["settings"], "x": 1}})
    groups = []

    def grouped(folders: list[JobFolder], stop: StopFlag) -> bool:
        groups.append(folders)
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "run_jobs", grouped)
        assert run.main([str(folder.path) for folder in again]) == 0
    assert groups == [[first], others]


def test_fits_that_are_stopped_together_go_on_to_the_same_bytes(
    again: list[JobFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in again:
        shutil.rmtree(folder.path / "attempt-1/checkpoints")
    stop, asked = StopFlag(), 0

    def stopping(questions: Any, together: bool) -> Any:
        nonlocal asked
        asked += 1
        assert together and len(questions) == 3
        if asked == 8:  # in the second epoch
            stop.number = signal.SIGTERM
        return answer(questions, together)

    monkeypatch.setattr("lwspec.kernels.training.receiver_pass.answer", stopping)
    assert not run.run_jobs(again, stop)
    for folder in again:
        assert read_json(folder.path / "attempt-2/exit.json")["outcome"] == "stopped"
        assert (folder.path / "attempt-2/checkpoints/step-00000008").exists()
    assert run.run_jobs(again, StopFlag())
    for folder in again:
        before = weights(folder.path)
        for key, weight in weights(folder.path, 3).items():
            assert torch.equal(weight, before[key])
