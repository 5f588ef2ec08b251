"""Tasks on rows of the true schemas: nested columns, a query for each row, strict extraction."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import WORDS, Project
from pyarrow import parquet

from lwspec.errors import DataError
from lwspec.kernels.data.adapters import adapt
from lwspec.kernels.data.seen import Seen, fill

SQUAD = {
    "id": "56be4db0acb8001400a502ec",
    "title": "Super_Bowl_50",
    "context": "Super Bowl 50 took place on February 7, 2016, at Levi's Stadium in Santa Clara.",
    "question": " Where did Super Bowl 50 take place? ",
    "answers": {
        "text": ["Santa Clara", "Levi's Stadium", "Santa Clara"],
        "answer_start": [68, 49, 68],
    },
}
HOTPOT = {
    "id": "5a7a06935542990198eaf050",
    "question": "Which magazine was started first?",
    "answer": "Arthur's Magazine",
    "type": "comparison",
    "level": "medium",
    "supporting_facts": {"title": ["Arthur's Magazine"], "sent_id": [0]},
    "context": {
        "title": ["Radio City", "Arthur's Magazine"],
        "sentences": [["Radio City is a station.", " It began in 2001."], ["It began in 1844."]],
    },
}
ARC = {
    "id": "Mercury_7175875",
    "question": "Which property of a mineral can be seen?",
    "choices": {"text": ["luster", "mass", "weight", "hardness"], "label": ["A", "B", "C", "D"]},
    "answerKey": "A",
}
ARC_DIGITS = {**ARC, "choices": {**ARC["choices"], "label": ["1", "2", "3", "4"]}, "answerKey": "3"}
GSM8K = {
    "question": "Natalia sold clips to 48 friends and half as many in May. How many in all?",
    "answer": "In May she sold 48/2 = <<48/2=24>>24.\nIn all 48+24 = <<48+24=72>>72.\n#### 72",
}


def test_squad_rows() -> None:
    row = adapt("squad", SQUAD, "row 0")
    assert row["passage"] == SQUAD["context"]
    assert row["question"] == "Where did Super Bowl 50 take place?"
    assert (row["answer"], row["answers"]) == ("Santa Clara", ["Santa Clara", "Levi's Stadium"])


def test_hotpotqa_rows() -> None:
    row = adapt("hotpotqa", HOTPOT, "row 0")
    assert row["passage"] == (
        "Radio City: Radio City is a station. It began in 2001.\n"
        "Arthur's Magazine: It began in 1844."
    )
    assert row["answer"] == "Arthur's Magazine"


def test_arc_rows() -> None:
    row = adapt("arc", ARC, "row 0")
    assert row["choices"] == "A. luster\nB. mass\nC. weight\nD. hardness"
    assert row["answer"] == "A"
    assert adapt("arc", ARC_DIGITS, "row 0")["answer"] == "C"
    assert adapt("arc", ARC_DIGITS, "row 0")["choices"] == row["choices"]


def test_gsm8k_rows() -> None:
    row = adapt("gsm8k", GSM8K, "row 0")
    assert row["answer"] == "72"
    assert row["solution"].endswith("\n#### 72")


@pytest.mark.parametrize("name", ["squad", "hotpotqa", "arc", "gsm8k"])
def test_rows_of_another_schema_are_refused(name: str) -> None:
    with pytest.raises(DataError, match=f"row 7 has not the schema of '{name}'"):
        adapt(name, {"question": "q", "answer": "no mark", "context": "flat"}, "row 7")


def test_a_template_is_filled_once_and_only_with_what_may_be_seen() -> None:
    assert fill("{context} {a}", "{a} is text", {"a": "x{context}"}) == "{a} is text x{context}"
    with pytest.raises(AssertionError):
        Seen(None, {}).fill("Text: {context}")
    with pytest.raises(DataError, match="colour"):
        Seen("text", {}).fill("{colour}")


QUESTIONS = """
[tasks.passages]
kind = "generation"
data = { path = "json", data_files = {FILES}, adapter = "squad" }
splits = { train = "train", validation = { from = "train", rows = 6 }, test = "test" }
context = "{passage}"
max_context_chars = 60
target = "{answer}"
accepted = "answers"
sender_prompt = "Passage: {context}\\nQuestion: {question}\\nAnswer:"
receiver_prompt = "Passage: {context}\\nQuestion: {question}\\nAnswer:"
query = "Question: {question}\\nAnswer:"
max_prompt_tokens = 100
max_new_tokens = 6

[tasks.truth]
kind = "classification"
data = { path = "json", data_files = {FILES-b} }
splits = { train = "train", validation = { from = "train", rows = 6 }, test = "test" }
context = "{passage}"
label = "answer"
labels = ["no", "yes"]
sender_prompt = "Passage: {context}\\nQuestion: {question}?\\nAnswer (yes or no):"
receiver_prompt = "Passage: {context}\\nQuestion: {question}?\\nAnswer (yes or no):"
query = "Question: {question}?\\nAnswer (yes or no):"
max_prompt_tokens = 100

[tasks.sums]
kind = "generation"
data = { path = "json", data_files = {FILES-g}, adapter = "gsm8k" }
splits = { train = "train", validation = { from = "train", rows = 6 }, test = "test" }
context = "{question}"
target = "{solution}"
answer_pattern = '#### (-?[\\d.,]+)'
sender_prompt = "Problem: {context}\\nSolution:"
receiver_prompt = "Problem: {context}\\nSolution:"
query = "Solution:"
max_prompt_tokens = 100
max_new_tokens = 12

[defaults]"""


def files(kind: str) -> str:
    return f'{{ train = "qa/train{kind}.jsonl", test = "qa/test{kind}.jsonl" }}'


for kind in ("", "-b", "-g"):
    QUESTIONS = QUESTIONS.replace(f"{{FILES{kind}}}", files(kind))


def write(path: Any, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def asking(project: Project) -> Project:
    folder = project.folder / "qa"
    folder.mkdir()
    for split, count in (("train", 24), ("test", 8)):
        passages = [f"{split} {n} {' '.join(WORDS[n % 5 :])}" for n in range(count)]
        answers = [{"text": [WORDS[n % 12], "it"], "answer_start": [0, 0]} for n in range(count)]
        questions = [f"which word {WORDS[n % 7]}" for n in range(count)]
        pairs = list(zip(passages, questions, strict=True))
        write(
            folder / f"{split}.jsonl",
            [
                {**SQUAD, "context": p, "question": q, "answers": a}
                for (p, q), a in zip(pairs, answers, strict=True)
            ],
        )
        write(
            folder / f"{split}-b.jsonl",
            [{"passage": p, "question": q, "answer": n % 2 == 0} for n, (p, q) in enumerate(pairs)],
        )
        write(
            folder / f"{split}-g.jsonl",
            [{"question": p, "answer": f"It is {n}.\n#### {n}"} for n, p in enumerate(passages)],
        )
    project.keep("direct", "relay", "main")
    project.change("[defaults]", QUESTIONS.lstrip())
    project.change('tasks = ["colour"]', 'tasks = ["passages", "truth", "sums"]')
    project.change("seeds = [1, 2]", "seeds = [1]")
    project.change("samples = 48, epochs = 2", "samples = 16, epochs = 1")
    metrics = 'metric = ["accuracy", "exact_match", "token_f1", "unparsed_rate"]'
    project.change('name = "main"\nexperiments', f'name = "main"\n{metrics}\nexperiments')
    return project


def test_questions_from_spec_to_table(asking: Project) -> None:
    asking.run("run", "small.toml", "--strict")
    seen = set()
    for path in asking.runs.glob("evaluate-*/attempt-1"):
        record = json.loads((path / "evaluation.json").read_text())
        rows = parquet.read_table(path / "predictions/test.parquet").to_pylist()
        assert len(rows) == record["n"] == 8
        metrics = record["metrics"]
        seen.add((record["task"], record["arm"]))
        if record["task"] == "passages":
            assert {"exact_match", "token_f1", "rougeL"} <= set(metrics)
        elif record["task"] == "sums":
            assert metrics["unparsed_rate"] == sum("#### " not in r["written"] for r in rows) / 8
        else:
            assert {row["label"] for row in rows} == {0, 1}
    assert len(seen) == 18
    table = (asking.folder / "paper/results.md").read_text()
    assert "n/a" in table and "the metric is not defined for the arm" in table


def test_rows_keep_what_the_query_names_and_are_cut(asking: Project) -> None:
    asking.run("submit", "small.toml", "--yes", "--only", "data passages")
    (path,) = asking.runs.glob("prepare-*/attempt-1/rows/test.parquet")
    rows = parquet.read_table(path).to_pylist()
    assert {len(row["context"]) for row in rows} > {60}
    assert max(len(row["context"]) for row in rows) == 60
    assert json.loads(rows[0]["fields"]) == {"question": "which word red"}
    assert rows[0]["accepted"] == ["red", "it"]


def test_a_private_receiver_gets_each_row_its_own_question_and_no_passage(asking: Project) -> None:
    from lwspec.kernels.arms import all_arms
    from lwspec.kernels.data.rows import Row
    from lwspec.kernels.setup import present_rows

    class Noting:
        bos: list[int] = []
        texts: list[str] = []

        def encode(self, text: str, last: int | None = None) -> list[int]:
            self.texts.append(text)
            return [1]

    from lwspec.kernels.arm import Setup

    reader = Noting()
    rows = [Row(n, "SECRET", "t", -1, {"question": f"why {n}"}) for n in range(2)]
    task = {"query": "Q: {question}\nA:", "receiver_prompt": "P: {context}", "max_prompt_tokens": 9}
    for name in ("bridge", "byte_bridge", "random_map", "text_relay", "truncated"):
        arm = all_arms()[name]
        settings = {
            "bridge": {"layer": 1},
            "random_map": {"layer": 1},
            "text_relay": {"prompt": "{context}"},
        }
        parsed = arm.declaration.settings.model_validate(settings.get(name, {}))
        setup = Setup(parsed, task, reader, 4)
        present_rows(arm, setup, ["kept", "kept"], rows)
    assert not any("SECRET" in text for text in reader.texts)
    assert [text for text in reader.texts if text.startswith("Q: ")][:2] == [
        "Q: why 0\nA:",
        "Q: why 1\nA:",
    ]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('query = "Question: {question}\\nAnswer:"', 'query = "{passage}"', "every column"),
        ("'#### (-?[\\d.,]+)'", "'#### -?[\\d.,]+'", "exactly one must hold the answer"),
        ("'#### (-?[\\d.,]+)'", "'#### (('", "no regular expression"),
        ('adapter = "squad"', 'adapter = "squat"', "squad"),
    ],
)
def test_what_does_not_fit_a_question(asking: Project, old: str, new: str, what: str) -> None:
    asking.change(old, new)
    done = asking.run("plan", "small.toml", status=2)
    assert what in done.stderr
    assert "small.toml:" in done.stderr


def test_a_task_whose_rows_have_one_label_is_refused_and_the_rest_goes_on(asking: Project) -> None:
    """Rows sorted by label and cut: every one of them is the same."""
    path = asking.folder / "qa/test-b.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    write(path, [{**row, "answer": True} for row in rows])
    asking.keep("direct")
    done = asking.run("submit", "small.toml", "--yes", status=1)
    assert "all 8 rows of test have the label 'yes'" in done.stdout
    assert "bad data" in done.stdout
    assert len(list(asking.runs.glob("evaluate-*/taken/result.json"))) == 8


def test_a_hub_set_without_network_fails_with_the_remedy_and_the_rest_goes_on(
    asking: Project,
) -> None:
    asking.change(
        f'data = {{ path = "json", data_files = {files("-b")} }}',
        'data = { path = "google/boolq" }',
    )
    validation = 'splits = { train = "train", validation = { from = "train", rows = 6 }, test = '
    asking.change(
        f'"google/boolq" }}\n{validation}"test" }}',
        f'"google/boolq" }}\n{validation}"validation" }}',
    )
    asking.keep("direct")
    done = asking.run("submit", "small.toml", "--yes", status=1)
    assert "cannot load the data" in done.stdout
    assert "hf auth login" in done.stdout
    assert "[network]" in done.stdout
    assert len(list(asking.runs.glob("evaluate-*/taken/result.json"))) == 8
