"""Incidents of data: rows, labels, golds, answers and what was cut.

docs/reliability.md lists all forty; each test is named after its number there.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Project
from datasets import ClassLabel, Dataset, Features, Value
from incidents import Copy, ended, jobs, plan, predictions, record, run_here
from pyarrow import parquet

from lwspec.engine.runs.runfolder import JobFolder
from lwspec.errors import DataError
from lwspec.kernels.data.adapters import adapt
from lwspec.kernels.measuring.metrics import parse_answer
from lwspec.kernels.models.answering import texts, write
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.training.loss import Counts
from lwspec.kernels.training.receiver_pass import Ask, losses

LABELS = ["red", "blue", "green stone"]
WORDS = "stone river cloud quick slow warm cold bright dark wide deep thin".split()


def rows_of(count: int, seed: int) -> list[dict[str, Any]]:
    source = random.Random(seed)
    return [
        {"text": " ".join(source.choices(WORDS, k=8)), "label": row % 3} for row in range(count)
    ]


def in_order(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """As a split lies on a hub that sorts it by label."""
    return [dict(row) for row in sorted(rows, key=lambda row: int(row["label"]))]


class Tasks:
    """A project with tasks of their own data, of which the rows alone are prepared."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.project.change('tasks = ["colour"]', "tasks = [TASKS]")
        self.project.keep("direct")
        self.names: list[str] = []
        (project.folder / "rows").mkdir()

    def add(
        self,
        name: str,
        train: Sequence[Mapping[str, Any]],
        test: Sequence[Mapping[str, Any]],
        features: Features | None = None,
        **changed: str | None,
    ) -> None:
        """A task like `colour` over these rows; a changed key of None is left out."""
        lines = {
            "kind": '"classification"', "label": '"label"', "labels": json.dumps(LABELS),
            "context": '"{text}"', "query": '"Colour:"',
            "sender_prompt": '"Text: {context}"', "receiver_prompt": '"Text: {context}"',
            "splits": '{ train = "train", validation = { from = "train", rows = 9 }, '
            'test = "test" }',
        }  # fmt: skip
        files = {}
        for split, rows in (("train", train), ("test", test)):
            files[split] = f"rows/{name}-{split}.parquet"
            path = self.project.folder / files[split]
            Dataset.from_list([dict(row) for row in rows], features=features).to_parquet(path)
        listed = ", ".join(f'{split} = "{path}"' for split, path in files.items())
        lines["data"] = f'{{ path = "parquet", data_files = {{ {listed} }} }}'
        lines |= {key: value for key, value in changed.items() if value is not None}
        body = "\n".join(f"{k} = {v}" for k, v in lines.items() if changed.get(k, "") is not None)
        self.project.change("[defaults]", f"[tasks.{name}]\n{body}\n\n[defaults]")
        self.names.append(name)

    def prepare(self) -> dict[str, JobFolder]:
        """Run the jobs that read the rows."""
        self.project.change("TASKS", ", ".join(f'"{name}"' for name in self.names))
        prepared = run_here(self.project, "data *")
        return {label.removeprefix("data "): folder for label, folder in prepared.items()}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, world: Path) -> dict[str, JobFolder]:
    """Tasks whose data are as they were in the incidents, after their rows were read."""
    tasks = Tasks(Project(tmp_path_factory.mktemp("data"), world))
    train, test = rows_of(60, 1), rows_of(24, 2)
    tasks.add("good", train, test)
    tasks.add("sorted", in_order(train), test)
    tasks.add("head", in_order(train), in_order(test)[:8])
    named = Features(
        {"text": Value("string"), "label": ClassLabel(names=["Red", "Green stone", "Blue"])}
    )
    tasks.add("swapped", train, test, named)
    right = Features({"text": Value("string"), "label": ClassLabel(names=LABELS)})
    tasks.add("named", train, test, right)
    solved = [{"text": row["text"], "answer": "12"} for row in train + test]
    free = {"kind": '"generation"', "target": '"{answer}"', "label": None, "labels": None}
    tasks.add("exemplar", solved[:60], solved[60:], **free)
    again = [{**row, "text": f"  {str(row['text']).upper()} "} for row in test]
    tasks.add("leaky", [*train, *again], test)
    tasks.add("broken", [{**row, "label": row["label"] + 1} for row in train], test)
    tasks.add("cut", train, test, max_context_chars="12")
    return tasks.prepare()


def texts_of(folder: JobFolder, split: str) -> list[str]:
    found: list[str] = column(folder, split, "context")
    return found


def column(folder: JobFolder, split: str, name: str) -> list[Any]:
    path = folder.file("result", f"rows/{split}.parquet")
    values: list[Any] = parquet.read_table(path).column(name).to_pylist()
    return values


def test_incident_10_an_answer_is_whole_or_none(finished: Project) -> None:
    assert parse_answer("answer: none of these", ["a", "b", "c", "d"]) is None
    assert parse_answer("The answer is a", ["a", "b", "c", "d"]) is None
    assert parse_answer(" a\nb", ["a", "b", "c", "d"]) == 0
    for label, folder in jobs(finished, "evaluate").items():
        lines = predictions(folder)
        if "written" not in lines[0]:
            continue  # the probe has no receiver that could write
        said = [line["written"].strip().split("\n")[0].strip() for line in lines]
        right = [one == LABELS[line["label"]] for one, line in zip(said, lines, strict=True)]
        unparsed = [one not in LABELS for one in said]
        metrics = record(folder / "taken/result.json")["metrics"]
        assert metrics["strict_accuracy"] == pytest.approx(sum(right) / len(right)), label
        assert metrics["unparsed_rate"] == pytest.approx(sum(unparsed) / len(right)), label


def test_incident_13_rows_sorted_by_label_are_shuffled_and_one_label_is_refused(
    prepared: Mapping[str, JobFolder],
) -> None:
    first = column(prepared["sorted"], "train", "label")[:12]
    assert set(first) == {0, 1, 2}
    assert set(column(prepared["sorted"], "validation", "label")) == {0, 1, 2}
    said = ended(prepared["head"])
    assert said["outcome"] == "bad data"
    assert "all 8 rows of test have the label 'red'" in said["message"]
    assert not prepared["head"].taken()


def test_incident_14_labels_in_another_order_than_the_datas_are_refused(
    prepared: Mapping[str, JobFolder],
) -> None:
    said = ended(prepared["swapped"])
    assert said["outcome"] == "bad data"
    assert "the label 'blue' is number 1 of the task and number 2 of the data" in said["message"]
    assert "Red, Green stone, Blue" in said["message"]
    assert ended(prepared["named"])["outcome"] == "finished"


def test_incident_18_a_gold_is_the_rows_own_and_golds_that_are_all_one_are_refused(
    prepared: Mapping[str, JobFolder],
) -> None:
    row = {"question": "Q: 3 x 4? A: #### 12\nQ: 2 + 3?", "answer": "4 x 3 #### 12 no\n#### 5"}
    assert adapt("gsm8k", row, "row 0")["answer"] == "5"
    with pytest.raises(DataError, match="no #### in the answer"):
        adapt("gsm8k", {**row, "answer": "5"}, "row 0")
    said = ended(prepared["exemplar"])
    assert said["outcome"] == "bad data"
    assert "rows of test have the target '12'" in said["message"]


def test_incident_19_a_text_that_is_tested_is_never_trained_on(
    prepared: Mapping[str, JobFolder],
) -> None:
    folder = prepared["leaky"]
    tested = {" ".join(text.lower().split()) for text in texts_of(folder, "test")}
    assert len(texts_of(folder, "test")) == 24
    for split in ("train", "validation"):
        assert not tested & {" ".join(text.lower().split()) for text in texts_of(folder, split)}
    assert folder.taken()["result"]["facts"]["left_out"] == 24
    assert prepared["good"].taken()["result"]["facts"]["left_out"] == 0


def test_incident_32_a_loaders_error_is_a_failed_job_and_no_result(
    prepared: Mapping[str, JobFolder],
) -> None:
    broken = prepared["broken"]
    said = ended(broken)
    assert said["outcome"] == "bad data"
    assert "the label 3 is not among the task's 3 labels" in said["message"]
    assert not broken.taken() and not list(broken.path.glob("attempt-*/outputs/*"))
    assert ended(prepared["good"])["outcome"] == "finished"


def test_incident_37_labels_are_shifted_once_and_only_new_tokens_are_an_answer(
    world: Path,
) -> None:
    reader = Reader.load(world / "models/mistral", "float32", None, torch.device("cpu"))
    prompt, target = reader.encode("Summarise: red river\nSummary:"), [5, 9, 7, 1]
    plain = {
        "supervised_tokens": None, "first_token_weight": 0.0, "distillation": 0.0,
        "distillation_temperature": 2.0,
    }  # fmt: skip
    asked = Ask(reader, [[prompt]], [target], Counts(len(target), 1), plain, None, (), 1)
    ((loss, _),) = losses([asked])
    ids = torch.tensor([prompt + target])
    answer_alone = torch.tensor([[-100] * len(prompt) + target])
    expected = reader.model(input_ids=ids, labels=answer_alone).loss
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)
    (written,) = write(reader, [[prompt]], 6)
    made = reader.model.generate(
        input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)).long(),
        max_new_tokens=6, do_sample=False, pad_token_id=reader.eos,
    )  # fmt: skip
    assert written == texts(reader, made[:, len(prompt) :])[0] != ""


def test_incident_40_training_and_test_read_texts_cut_alike(
    prepared: Mapping[str, JobFolder], finished: Project, copy_of_finished: Copy
) -> None:
    for split in ("train", "validation", "test"):
        assert {len(text) for text in texts_of(prepared["cut"], split)} == {12}
    fits = jobs(finished, "fit")
    for label, folder in jobs(finished, "evaluate").items():
        job = record(folder / "job.json")
        if "fit" in job["inputs"]:
            fit = record(fits[label] / "job.json")
            assert fit["inputs"]["data"] == job["inputs"]["data"]
            shared = fit["settings"]["task"].keys() & job["settings"]["task"].keys()
            for key in shared:
                assert fit["settings"]["task"][key] == job["settings"]["task"][key], (label, key)
    project = copy_of_finished()
    project.change("max_prompt_tokens = 40", "max_prompt_tokens = 40\nmax_context_chars = 12")
    assert all(job["owed"] for job in plan(project)["jobs"]), "what was read uncut is no longer it"
