"""`lwspec init`: what it writes can be planned and run as it stands, and says what it guessed."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import datasets
import jsonschema
import pytest
from conftest import ENVIRONMENT, ROOT, WORDS, make_rows

from lwspec.cli import main
from lwspec.cli.new.guess import guess
from lwspec.cli.new.task import known_tasks
from lwspec.cli.new.templates import toml
from lwspec.cli.session import open_session
from lwspec.engine.executors.submit import LOCAL, write_jobs
from lwspec.errors import DataError

MOODS = ("calm", "angry", "glad")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(path: str) -> dict[str, Any]:
    """A spec that was written, after the schema beside it and a plan have taken it."""
    spec = tomllib.loads(Path(path).read_text())
    schema = json.loads((Path(path).parent / "lwspec.schema.json").read_text())
    jsonschema.Draft7Validator(schema).validate(spec)
    assert Path(path).read_text().startswith("#:schema lwspec.schema.json\n")
    assert main(["plan", path]) == 0
    return spec


def write_csv(path: str, rows: int = 60) -> None:
    with Path(path).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "mood"])
        for n in range(rows):
            writer.writerow([n, f'{WORDS[n % 12]}, "{WORDS[n % 7]}" {n}', MOODS[n % 3]])


def test_without_arguments_it_is_a_toy_pair_that_can_be_planned(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init"]) == 0
    assert "next     lwspec plan spec.toml" in capsys.readouterr().out
    assert not Path("runs").exists()
    spec = written("spec.toml")
    assert {model["toy"] for model in spec["models"].values()} == {"llama", "mistral"}
    assert "not in the template" not in capsys.readouterr().out
    assert (folder / ".gitignore").read_text().split() == ["runs/", "results.db*", "paper/"]


def test_nothing_is_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("spec.toml", "other.tex", ".gitignore", "lwspec.schema.json"):
        (folder / name).write_text("mine")
    assert main(["init"]) == 2
    assert main(["init", "other.toml"]) == 2
    assert not Path("other.toml").exists()
    assert main(["init", "third.toml"]) == 0
    assert "lacks runs/, results.db*, paper/" in capsys.readouterr().out
    for name in ("spec.toml", "other.tex", ".gitignore", "lwspec.schema.json"):
        assert (folder / name).read_text() == "mine"


def make_model(path: Path) -> None:
    """What a plan reads of a model."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({**sizes, "vocab_size": 300}))


def test_rows_and_models_of_one_s_own(folder: Path) -> None:
    write_csv("mood.csv")
    make_model(folder / "models/llama")
    make_model(folder / "models/mistral")
    pair = ("--sender", "models/llama", "--receiver", "models/mistral")
    assert main(["init", "specs/mine.toml", *pair, "--task", "feeling=mood.csv"]) == 0
    spec = written("specs/mine.toml")
    task = spec["tasks"]["feeling"]
    assert task["context"] == "{text}" and task["label"] == "mood"
    assert task["labels"] == sorted(MOODS)
    assert task["data"] == {"path": "csv", "data_files": {"train": "../mood.csv"}}
    assert task["sender_prompt"] == "Text: {context}\nMood (angry, calm, or glad):"
    assert task["splits"]["test"] == {"from": "train", "rows": 12}
    text = Path("specs/mine.toml").read_text()
    assert "# guessed from 60 rows of mood.csv" in text
    assert "# columns that nothing reads: id" in text
    paths = {name: model["path"] for name, model in spec["models"].items()}
    assert paths == {"llama": "../models/llama", "mistral": "../models/mistral"}
    (bridge,) = (e["bridge"] for e in spec["experiment"] if "bridge" in e)
    assert bridge["layer"] == 1


def test_what_is_written_for_few_rows_takes_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_csv("mood.csv", 80)
    assert main(["init", "mood.toml", "--task", "mood=mood.csv"]) == 0
    most = written("mood.toml")["defaults"]["train"]["samples"]["max"]
    text = Path("mood.toml").read_text().replace(f"{{ max = {most} }}", str(most))
    Path("mood.toml").write_text(text)
    assert main(["plan", "mood.toml"]) == 2
    said = capsys.readouterr().err
    assert f"{most} training samples are asked for; mood has at most 57" in said
    assert f"set samples = {{ max = {most} }}" in said


def test_tasks_of_both_kinds_get_a_table_each() -> None:
    make_rows(Path("data"))
    rows = [
        {"article": f"{' '.join(WORDS)} {n}", "headline": f"{WORDS[n % 12]} {n}"} for n in range(40)
    ]
    Path("news.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    colours = "colour=data/train.jsonl,data/test.jsonl"
    assert main(["init", "--task", colours, "--task", "news=news.jsonl", "--task", "trec"]) == 0
    spec = written("spec.toml")
    news, colour = spec["tasks"]["news"], spec["tasks"]["colour"]
    assert (news["kind"], news["target"]) == ("generation", "{headline}")
    assert colour["labels"] == ["0", "1", "2"]
    assert colour["splits"]["test"] == "test"
    assert colour["splits"]["validation"] == {"from": "train", "rows": 7}
    assert [table["tasks"] for table in spec["table"]] == [["colour", "trec"], ["news"]]


def test_jobs_read_the_rows_as_they_were_guessed(folder: Path) -> None:
    write_csv("mood.csv")
    texts = [f"{WORDS[n % 12]} {WORDS[n % 7]} {n}" for n in range(60)]
    rows = [{"text": text, "answer": len(text) % 2 == 0} for text in texts]
    Path("even.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    named = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["low", "high"])}
    )
    halves = {"text": texts, "label": [n % 2 for n in range(60)]}
    datasets.Dataset.from_dict(halves, named).to_parquet("half.parquet")
    tasks = [f"--task={name}" for name in ("mood=mood.csv", "even=even.jsonl", "half=half.parquet")]
    assert main(["init", *tasks]) == 0
    found = open_session(Path("spec.toml"), Path("results.db"), Path("runs"))
    jobs = [job.id for job in found.plan.expansion.jobs.values() if job.step == "data"]
    write_jobs(found.plan, found.runs, dict.fromkeys(jobs, 600.0), LOCAL)
    command = [sys.executable, "-m", "lwspec.kernels.run", *(f"runs/{job}" for job in jobs)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    labels = {name: task["labels"] for name, task in written("spec.toml")["tasks"].items()}
    assert labels == {"mood": sorted(MOODS), "even": ["no", "yes"], "half": ["low", "high"]}


def test_the_tasks_known_by_name_are_those_of_the_specs() -> None:
    for name in ("quickstart.toml", "final.toml"):
        tasks = tomllib.loads((ROOT / "specs" / name).read_text())["tasks"]
        for task, table in tasks.items():
            assert tomllib.loads(known_tasks()[task])["tasks"] == {task: table}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "sst"], "did you mean: sst2"),
        (["--task", "mood=moods.csv"], "did you mean: mood.csv"),
        (["--task", "mood=mood.txt"], "none of the endings"),
        (["--task", "mood=few.csv"], "9 different texts"),
        (["--task", "mood=broken.jsonl"], "cannot read the rows"),
        (["--sender", "org/name"], "give both, or neither"),
        (["--sender", "data", "--receiver", "org/name"], "neither a folder with a config.json"),
        (["spec"], "lwspec init spec.toml"),
    ],
)
def test_what_cannot_be_a_spec_is_refused_and_leaves_nothing(
    arguments: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv("mood.csv")
    write_csv("few.csv", 9)
    Path("mood.txt").write_text("calm")
    Path("broken.jsonl").write_text('{"text": ')
    Path("data").mkdir()
    before = sorted(folder.iterdir())
    assert main(["init", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before


TEXTS = [f"a text that is long enough {n}" for n in range(40)]


@pytest.mark.parametrize(
    ("columns", "kind", "answer", "labels"),
    [
        ({"t": TEXTS, "x": ["a", "b"] * 20, "label": ["u", "v"] * 20}, 0, "label", ("u", "v")),
        ({"t": TEXTS, "x": ["a", "b"] * 20, "z": ["c", "d"] * 20}, 0, "z", ("c", "d")),
        ({"t": TEXTS, "x": ["a", "b"] * 20, "summary": TEXTS[::-1]}, 1, "summary", ()),
        ({"t": TEXTS, "short": [text[-9:] for text in TEXTS]}, 1, "short", ()),
        ({"t": TEXTS, "y": [1, 3] * 20}, 0, "y", ("0", "1", "2", "3")),
        ({"t": TEXTS, "y": [True, False] * 20}, 0, "y", ("no", "yes")),
    ],
)
def test_a_task_is_guessed_from_its_columns(
    columns: dict[str, list[Any]], kind: int, answer: str, labels: tuple[str, ...]
) -> None:
    found = guess(columns, {}, "rows")
    assert found.context == "t"
    assert found.kind == ("classification", "generation")[kind]
    assert (found.answer, found.labels) == (answer, labels)


def test_names_that_a_file_has_for_its_labels_are_taken() -> None:
    found = guess({"t": TEXTS, "y": [0, 1] * 20}, {"y": ["bad", "good"]}, "rows")
    assert found.labels == ("bad", "good")


@pytest.mark.parametrize(
    "columns",
    [
        {"t": TEXTS},
        {"a text": TEXTS, "label": ["u", "v"] * 20},
        {"t": [*TEXTS[:-1], None], "label": ["u", "v"] * 20},
        {"t": TEXTS, "y": [-1, 1] * 20},
        {"t": TEXTS, "y": [0.5, 1.0] * 20},
    ],
)
def test_rows_that_no_task_could_read_are_refused(columns: dict[str, list[Any]]) -> None:
    with pytest.raises(DataError):
        guess(columns, {}, "rows")


def test_any_text_can_be_written_as_toml() -> None:
    value = {"a b": ['"', "\\", "\n\t\x7f\x01", "é\u2028", 0.5, True, {"k": 1}]}
    assert tomllib.loads(f"x = {toml(value)}")["x"] == value


def test_a_header_writes_nothing_into_the_spec_but_a_comment(folder: Path) -> None:
    hostile = "x\n[cluster.evil]\nsetup = ['touch evil']\n#"
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["text", "mood", hostile])
        writer.writeheader()
        for n in range(60):
            mood = MOODS[n % 2]
            writer.writerow({"text": f"a warm stone {n}", "mood": mood, hostile: ""})
    assert main(["init", "new.toml", "--task", "mood=rows.csv"]) == 0
    text = (folder / "new.toml").read_text(encoding="utf-8")
    assert "cluster.evil" in text
    assert "cluster" not in tomllib.loads(text)


def test_figures_of_toys_on_rows_of_one_s_own_are_called_chance() -> None:
    write_csv("mood.csv", 80)
    assert main(["init", "mood.toml", "--task", "mood=mood.csv"]) == 0
    assert main(["init", "toys.toml", "--task", "sentiment"]) == 0
    said = "of other rows they know nothing"
    assert said in Path("mood.toml").read_text() and said not in Path("toys.toml").read_text()
