"""What an arm learns from, against plain computations, whole and in parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Project
from torch.nn import functional

from lwspec.kernels.data.batches import RowsAtOnce, by_length
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.training import receiver_pass
from lwspec.kernels.training.loss import Counts, supervised
from lwspec.kernels.training.receiver_pass import Ask, gradients, losses

PLAIN = {
    "supervised_tokens": None,
    "first_token_weight": 0.0,
    "distillation": 0.0,
    "distillation_temperature": 2.0,
}
ANSWERS = [[5, 9, 1], [6, 1], [7, 8, 4, 1], [5, 1]]


@pytest.fixture
def reader(world: Path) -> Reader:
    return Reader.load(world / "models/mistral", "float32", None, torch.device("cpu"))


def prompts(reader: Reader) -> list[Any]:
    return [[reader.encode(text)] for text in ("red", "blue green", "river cloud quick", "dark")]


def logits_after(reader: Reader, prompt: list[int], answer: list[int]) -> torch.Tensor:
    ids = torch.tensor([prompt + answer])
    return reader.model(input_ids=ids).logits[0, len(prompt) - 1 : -1].detach()


def test_every_term_is_what_its_formula_says(reader: Reader) -> None:
    train = {**PLAIN, "first_token_weight": 0.5, "distillation": 3.0}
    asked, teachers = prompts(reader), [[reader.encode(f"Text: {n}")] for n in range(4)]
    ((whole, plain),) = losses([Ask(reader, asked, ANSWERS, Counts(11, 4), train, teachers, (), 4)])
    entropies, firsts, divergences = [], [], []
    for (prompt,), (teacher,), answer in zip(asked, teachers, ANSWERS, strict=True):
        student_TV = logits_after(reader, prompt, answer)
        nats = functional.cross_entropy(student_TV, torch.tensor(answer), reduction="none")
        entropies += nats.tolist()
        firsts.append(float(nats[0]))
        p = (logits_after(reader, teacher, answer) / 2.0).softmax(-1)
        q = (student_TV / 2.0).softmax(-1)
        divergences += (p * (p / q).log()).sum(-1).tolist()
    expected = sum(entropies) / 11
    assert float(plain) == pytest.approx(expected, rel=1e-4)
    expected += 0.5 * sum(firsts) / 4 + 3.0 * 4.0 * sum(divergences) / 11
    assert float(whole) == pytest.approx(expected, rel=1e-4)


def test_a_batch_in_parts_has_the_loss_and_gradient_of_the_whole(reader: Reader) -> None:
    train = {**PLAIN, "first_token_weight": 0.5, "distillation": 1.0}
    texts, found, total = prompts(reader), [], []
    start = torch.randn(4, 3, reader.width, generator=torch.Generator().manual_seed(0))
    for size in (4, 3, 1):
        soft = [row.clone().requires_grad_() for row in start]
        asked = [[*text, row] for text, row in zip(texts, soft, strict=True)]
        ask = Ask(reader, asked, ANSWERS, Counts(11, 4), train, texts, soft, size)
        total += map(float, gradients([ask]))
        found.append(torch.stack([row.grad for row in soft]))
    assert total[1:] == pytest.approx([total[0]] * 2, rel=1e-5)
    for gradient in found[1:]:
        torch.testing.assert_close(gradient, found[0], atol=1e-6, rtol=1e-4)


def test_only_the_first_tokens_are_learnt_where_so_asked() -> None:
    assert supervised([4, 5, 6, 1], {**PLAIN, "supervised_tokens": 2}) == [4, 5]
    assert supervised([4, 5, 6, 1], PLAIN) == [4, 5, 6, 1]


class Recorder:
    """Stands for an attempt: remembers events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []

    def event(self, kind: str, rows: int) -> None:
        self.events.append((kind, rows))


def test_when_memory_runs_out_fewer_rows_go_at_once_and_it_is_recorded() -> None:
    recorder, seen = Recorder(), []

    def work(rows: Any) -> list[int]:
        if len(rows) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        seen.append(len(rows))
        return [row * row for row in rows]

    at_once = RowsAtOnce(recorder, 11)
    assert at_once.over(range(11), work) == [row * row for row in range(11)]
    assert recorder.events == [("fewer_rows_at_once", 6), ("fewer_rows_at_once", 3)]
    assert seen == [3, 3, 3, 2]

    def too_large(rows: Any) -> list[int]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        at_once.over(range(2), too_large)


def test_batches_hold_every_row_once_and_those_of_like_length_together() -> None:
    lengths = [3, 9, 1, 9, 4, 4, 8]
    batches = list(by_length(lengths, 3, 100))
    assert sorted(index for batch in batches for index in batch) == list(range(7))
    assert [[lengths[i] for i in batch] for batch in batches] == [[9, 9, 8], [4, 4, 3], [1]]
    batches = list(by_length(lengths, 3, 10))
    assert [[lengths[i] for i in batch] for batch in batches] == [[9], [9], [8], [4, 4], [3, 1]]


def fits(project: Project) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted(project.runs.glob("fit-*")):
        job = json.loads((path / "job.json").read_text())
        epoch = json.loads((path / "taken/epoch-001.json").read_text())
        found[job["label"]] = {**job, **epoch}
    return found


def test_a_fit_in_parts_ends_with_the_weights_of_one_in_whole(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is made to run out in a real job; its numbers are those of a whole one."""
    from lwspec.kernels import run
    from lwspec.kernels.attempt import StopFlag

    project.keep("main")
    project.change("epochs = 2", "epochs = 1")
    project.change("seeds = [1, 2]", "seeds = [1]")
    project.run("submit", "small.toml", "--yes")
    (whole,) = fits(project).values()
    folder = next(project.runs.glob("fit-*"))
    kept = folder / "attempt-1/weights/epoch-001.safetensors"
    from safetensors.torch import load_file

    before = load_file(kept)
    (folder / "taken/epoch-001.json").unlink()
    for made in folder.glob("attempt-1"):
        made.rename(folder.parent / "set-aside")
    answer_logits = receiver_pass.answer_logits

    def scarce(reader: Reader, asked: Any, answers: Any) -> Any:
        if len(asked) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answer_logits(reader, asked, answers)

    monkeypatch.setattr(receiver_pass, "answer_logits", scarce)
    threads = torch.get_num_threads()
    assert run.run_jobs([run.JobFolder(folder)], StopFlag())
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
    (again,) = fits(project).values()
    assert again["facts"]["rows_at_once"] == 2
    assert whole["facts"]["rows_at_once"] == 8
    assert again["metrics"]["train_loss"] == pytest.approx(whole["metrics"]["train_loss"], rel=1e-4)
    after = load_file(folder / "attempt-1/weights/epoch-001.safetensors")
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, atol=1e-3, rtol=1e-2)
    events = (folder / "attempt-1/events.jsonl").read_text()
    assert events.count("fewer_rows_at_once") == 1


OPTION = """
[[experiment]]
name = "NAME"
arms = ["bridge"]
seeds = [1]
train = { epochs = 1 }
bridge = { layer = 1, latents = 4, width = 16, depth = 1, heads = 2 }
sweep = { KEY }

"""
SWEPT = {
    "distillation": '"train.distillation" = [0.0, 1.0]',
    "first_token": '"train.first_token_weight" = [0.5, 1.0]',
    "supervised": '"train.supervised_tokens" = [1, 2]',
    "layout": '"bridge.layout" = ["query_message", "message_query"]',
    "calibration": '"bridge.calibration" = ["fixed", "example"]',
    "bos": '"bridge.bos" = ["first", "none", "answer"]',
}


def test_every_option_changes_what_is_learnt(project: Project) -> None:
    """Twelve ways to train one bridge, of which only the plain one is met three times."""
    project.keep("main")
    options = [OPTION.replace("NAME", name).replace("KEY", key) for name, key in SWEPT.items()]
    project.change("[[table]]", "".join(options).lstrip() + "[[table]]")
    project.keep(*SWEPT)
    project.run("submit", "small.toml", "--yes")
    found = fits(project)
    assert len(found) == sum(key.count(",") + 1 for key in SWEPT.values()) - 2
    weights = {str(sorted(fit["files"].values())) for fit in found.values()}
    assert len(weights) == len(found)
