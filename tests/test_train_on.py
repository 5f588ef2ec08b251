"""One fit over the rows of several tasks, measured on each, and on tasks that it never saw."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import WORDS, Project
from test_expand import expansion, ids
from test_resume import jobs, start

from lwspec.engine.job import Job, role_of
from lwspec.engine.plan.cost import Facts, training_work
from lwspec.engine.runs.jsonfile import read_json
from lwspec.engine.runs.runfolder import JobFolder
from lwspec.engine.shapes import Shape
from lwspec.errors import SpecError
from lwspec.kernels.arms import declarations

TASKS = """
[tasks.warmth]
kind = "classification"
data = { path = "json", data_files = { train = "more/train.jsonl", test = "more/test.jsonl" } }
splits = { train = "train", validation = { from = "train", rows = 8 }, test = "test" }
context = "{text}"
label = "warm"
labels = ["cold", "warm"]
sender_prompt = "Note: {context}\\nWarmth:"
receiver_prompt = "Note: {context}\\nWarmth:"
query = "Warmth:"
max_prompt_tokens = 40

[tasks.late]
kind = "classification"
data = { path = "json", data_files = { train = "data/train.jsonl", test = "data/test.jsonl" } }
splits = { train = "train", validation = { from = "train", rows = 12 }, test = "test" }
context = "{text}"
label = "label"
labels = ["quick", "slow", "bright"]
sender_prompt = "Text: {context}\\nColour:"
receiver_prompt = "Text: {context}\\nPace:"
query = "Pace:"
max_prompt_tokens = 40

[tasks.words]
kind = "generation"
data = { path = "json", data_files = { train = "more/train.jsonl", test = "more/test.jsonl" } }
splits = { train = "train", validation = { from = "train", rows = 8 }, test = "test" }
context = "{text}"
target = "{first}"
sender_prompt = "Note: {context}\\nFirst:"
receiver_prompt = "Note: {context}\\nFirst:"
query = "First:"
max_prompt_tokens = 40
max_new_tokens = 3

[defaults]"""


def write_more(folder: Path, texts: Sequence[str] = ()) -> None:
    """Rows of the other tasks; `texts` stand among those of the test split."""
    source = random.Random(1)
    folder.mkdir(exist_ok=True)
    for split, count in (("train", 40), ("test", 12)):
        made = [
            " ".join(["note", *source.choices(WORDS, k=source.randint(3, 9))]) for _ in range(count)
        ]
        made += texts if split == "test" else []
        rows = [
            {"text": text, "warm": number % 2, "first": text.split()[1]}
            for number, text in enumerate(made)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def several(project: Project) -> Project:
    """The bridge alone, in a spec of four tasks: `late` asks something else of colour's texts."""
    write_more(project.folder / "more")
    project.change("[defaults]", TASKS.lstrip())
    project.change("samples = 48", "samples = { max = 48 }")
    project.keep("main")
    return project


def train_on(project: Project, on: str, tasks: str) -> None:
    project.change('tasks = ["colour"]', f"tasks = {tasks}\ntrain_on = {on}")


def test_a_fit_over_its_own_task_is_the_fit_that_it_always_was(several: Project) -> None:
    before = expansion(several).jobs
    train_on(several, '["colour"]', '["colour"]')
    assert expansion(several).jobs == before
    (fit, _) = [job for job in before.values() if job.kind == "fit"]
    assert set(fit.inputs) == {"data", "states"}
    assert set(fit.settings) == {
        "arm", "arm_version", "arm_settings", "models", "task", "device", "threads", "samples",
        "train", "seed",
    }  # fmt: skip
    assert fit.parts == (fit,)


def test_cells_of_all_tasks_share_one_fit(several: Project) -> None:
    train_on(several, '["warmth", "colour"]', '["colour", "warmth", "late", "words"]')
    found = expansion(several)
    fits, cells = ids(found, "fit", "bridge"), found.cells
    assert len(fits) == 2
    assert {cell.fit for cell in cells} == fits
    assert len({cell.evaluate for cell in cells}) == 4 * 2
    fit = found.jobs[min(fits)]
    assert set(fit.inputs) == {"data", "states", "data:2", "states:2"}
    assert set(fit.reads["states:2"]) == {"validation", "train-0000"}
    assert {part.settings["task"]["query"] for part in fit.parts} == {"Colour:", "Warmth:"}
    for part in fit.parts:
        assert part.settings["task"]["query"][:-1].lower() == part.names["task"]
        assert found.jobs[part.inputs["states"]].names["task"] == part.names["task"]
    several.change('["warmth", "colour"]', '["colour", "warmth"]')
    assert ids(expansion(several), "fit", "bridge") == fits


def test_the_sender_reads_what_is_trained_on_or_tested_and_no_more(several: Project) -> None:
    train_on(several, '["colour", "warmth"]', '["colour", "late"]')
    found = expansion(several)
    read = {job.names["task"]: job.outputs for job in found.jobs.values() if job.step == "states"}
    assert read == {
        "colour": ("validation", "test", "train-0000"),
        "warmth": ("validation", "train-0000"),
        "late": ("test",),
    }


def test_a_task_is_left_out_of_the_fit_that_it_is_measured_by(several: Project) -> None:
    train_on(several, '"others"', '["colour", "warmth", "late"]')
    found = expansion(several)
    assert len(ids(found, "fit", "bridge")) == 3 * 2
    for cell in found.cells:
        trained = [part.names["task"] for part in found.jobs[str(cell.fit)].parts]
        assert sorted([cell.task, *trained]) == ["colour", "late", "warmth"]


def test_a_late_query_is_asked_of_the_fit_on_the_other_task(several: Project) -> None:
    plain = ids(expansion(several), "fit", "bridge")
    train_on(several, '["colour"]', '["late"]')
    found = expansion(several)
    assert ids(found, "fit", "bridge") == plain
    assert {found.jobs[cell.evaluate].settings["task"]["query"] for cell in found.cells} == {
        "Pace:"
    }


def test_arms_that_are_not_trained_run_beside_as_they_always_do(several: Project) -> None:
    several.change('arms = ["bridge"]', 'arms = ["bridge", "no_message"]')
    before = ids(expansion(several), "evaluate", "no_message")
    train_on(several, '["warmth"]', '["colour"]')
    assert ids(expansion(several), "evaluate", "no_message") == before


def test_the_price_counts_the_rows_of_all_tasks() -> None:
    """Two tasks of 32 and 16 rows cost what 48 rows of one do, their other prompts alike."""
    task = {"query": "Colour:", "answer": " {label}"}
    settings: dict[str, Any] = {
        "train": {"batch_size": 16}, "samples": {}, "task": task,
        "arm_settings": {"layer": 1, "latents": 8, "width": 64},
    }  # fmt: skip
    shape = Shape(64, 4, 1e6)
    facts = Facts({"s": shape, "r": shape}, {}, {"a": 32, "b": 16, "c": 48}, {}, "cpu", {})

    def priced(settings: dict[str, Any], *data: str) -> float:
        inputs = {role_of("data", number): name for number, name in enumerate(data)}
        names = {"sender": "s", "receiver": "r"}
        job = Job("fit-1", "fit", "bridge", settings, inputs, (), "", {}, names=names)
        return training_work(job, declarations()["bridge"], facts).frozen_flop

    both = priced({**settings, "other_tasks": [{"task": task}]}, "a", "b")
    assert both == pytest.approx(priced(settings, "c"))
    assert both == pytest.approx(4 * 1e6 * 48 * 10)  # each way through a million weights


REFUSED = {
    "an unknown task": ('["color"]', '["colour"]', "there is no task 'color'"),
    "labels and free text": ('["colour", "words"]', '["colour"]', "tasks of both kinds"),
    "nobody left": ('"others"', '["colour"]', "has no task to train on"),
    "neither tasks nor others": ('"all"', '["colour"]', "train_on: Input should be 'others'"),
    "an empty list": ("[]", '["colour"]', "train_on: at least 1 are wanted, 0 given"),
    "a task twice": ('["colour", "colour"]', '["colour"]', "given twice"),
}


def refusal(project: Project) -> str:
    stderr = project.run("plan", "small.toml", status=2).stderr
    line = 1 + next(
        n for n, text in enumerate(project.spec.read_text().splitlines()) if "train_on" in text
    )
    assert f"small.toml:{line}:" in stderr
    return stderr


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_on_is_refused(name: str, several: Project) -> None:
    on, tasks, what = REFUSED[name]
    train_on(several, on, tasks)
    assert what in refusal(several)


@pytest.mark.parametrize("arm", ["linear_probe", "ridge_map"])
def test_an_arm_that_is_solved_for_its_labels_is_refused(arm: str, several: Project) -> None:
    train_on(several, '["colour", "warmth"]', '["colour"]')
    several.change('arms = ["bridge"]', f'arms = ["bridge", "{arm}"]\n{arm} = {{ layer = 1 }}')
    assert f"{arm} is solved in one step over one task: not colour, warmth" in refusal(several)


def test_where_nobody_is_trained_it_is_refused(several: Project) -> None:
    text = several.spec.read_text()
    bridge = next(line for line in text.splitlines() if line.startswith("bridge = "))
    several.change(f'arms = ["bridge"]\n{bridge}', 'arms = ["no_message"]')
    train_on(several, '["warmth"]', '["colour"]')
    assert "none of its arms is trained" in refusal(several)


def test_tasks_of_one_data_set_that_are_split_otherwise_are_refused(several: Project) -> None:
    several.change('query = "Pace:"', 'query = "Pace:"\nsample_seed = 7')
    train_on(several, '["colour"]', '["late"]')
    with pytest.raises(SpecError, match="their sample_seed differ"):
        expansion(several)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, world: Path) -> Project:
    """A fit over two tasks, measured on both and on two that it never saw."""
    project = Project(tmp_path_factory.mktemp("several"), world)
    write_more(project.folder / "more")
    project.change("[defaults]", TASKS.lstrip())
    project.change("samples = 48", "samples = { max = 48 }")
    project.change("epochs = 2", 'checkpoint = "best", distillation = 0.5, epochs = 2')
    project.keep("main")
    train_on(project, '["colour", "warmth"]', '["colour", "warmth", "late", "words"]')
    project.run("submit", "small.toml", "--yes")
    return project


def test_one_fit_is_measured_on_tasks_seen_and_unseen(run: Project) -> None:
    fits = [JobFolder(path) for path in run.runs.glob("fit-*")]
    assert len(fits) == 2
    for fit in fits:
        taken = fit.taken()
        for output in ("epoch-001", "epoch-002"):
            metrics = taken[output]["metrics"]
            own = [metrics[f"validation_accuracy:{task}"] for task in ("colour", "warmth")]
            assert metrics["validation_accuracy"] == pytest.approx(sum(own) / 2)
            assert taken[output]["facts"]["samples"] == 48 + 32
            assert taken[output]["facts"]["steps"] == 10 * int(output[-1])
    records = [read_json(path) for path in run.runs.glob("evaluate-*/attempt-1/evaluation.json")]
    measured = sorted((record["task"], record["seed"]) for record in records)
    assert measured == sorted((t, s) for t in ("colour", "warmth", "late", "words") for s in (1, 2))
    for record in records:
        of_seed = {r["checkpoint"]["sha256"] for r in records if r["seed"] == record["seed"]}
        assert of_seed == {record["checkpoint"]["sha256"]}


def test_a_table_says_what_its_fits_were_trained_on(run: Project) -> None:
    run.run("report", "small.toml", "--paper", "paper")
    table = (run.folder / "paper/tables/main.tex").read_text()
    noted = "Trained on colour + warmth: trained arms in main; their training rows are counted over"
    assert noted in " ".join(table.split())


LONG = ("epochs = 2, batch_size = 8", "epochs = 20, batch_size = 4")


def weights(project: Project) -> dict[str, bytes]:
    """The weights of each seed after the last epoch."""
    return {
        path.parts[-4]: path.read_bytes()
        for path in project.runs.glob("fit-*/attempt-*/weights/epoch-020.safetensors")
    }


def test_killed_half_way_it_ends_with_the_same_weights(
    several: Project, tmp_path_factory: pytest.TempPathFactory, world: Path
) -> None:
    several.change(*LONG)
    train_on(several, '["colour", "warmth"]', '["late"]')
    undisturbed = Project(tmp_path_factory.mktemp("undisturbed"), world)
    write_more(undisturbed.folder / "more")
    undisturbed.write(several.spec.read_text())
    undisturbed.run("submit", "small.toml", "--yes")
    process = start(several)
    while not list(several.runs.glob("fit-*/attempt-1/checkpoints/step-*")):
        assert process.poll() is None, (several.folder / "log.txt").read_text()
        time.sleep(0.05)
    for pid in jobs(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    several.run("submit", "small.toml", "--yes")
    events = [path.read_text() for path in several.runs.glob("fit-*/attempt-2/events.jsonl")]
    assert any('"resumed"' in text for text in events)
    assert len(weights(undisturbed)) == 2
    assert weights(several) == weights(undisturbed)


def test_texts_that_one_task_tests_and_another_trains_on_end_the_run(several: Project) -> None:
    rows = [json.loads(line) for line in (several.folder / "data/train.jsonl").open()]
    write_more(several.folder / "more", [row["text"] for row in rows])
    train_on(several, '["colour", "warmth"]', '["colour"]')
    told = several.run("submit", "small.toml", "--yes", status=1).stdout
    assert "texts of the test rows of 'warmth' stand among the training rows of 'colour'" in told
    several.change('["colour", "warmth"]', '["colour"]')
    several.change('tasks = ["colour"]', 'tasks = ["warmth"]')
    told = several.run("submit", "small.toml", "--yes", status=1).stdout
    assert "texts of the test rows of 'warmth' stand among the training rows of 'colour'" in told
