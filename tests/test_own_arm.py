"""An arm of the user's own: the page that says how to write one, followed to the letter."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ENVIRONMENT, ROOT, Project

from lwspec.cli.session import open_session
from lwspec.engine.executors.submit import plan_record
from lwspec.engine.plan.plan import compare

PAGE = (ROOT / "docs" / "arms.md").read_text()
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
FILES, EXPERIMENT = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def jobs(project: Project) -> set[str]:
    """The ids of a plan's jobs."""
    plan = project.run("plan", "small.toml", "--json")
    return {job["id"] for job in json.loads(plan.stdout)["jobs"]}


@pytest.fixture
def own(project: Project) -> Project:
    """A project with the page's file beside its spec, and what the page adds to the spec."""
    text = project.spec.read_text()
    start, end = text.index("[[experiment]]"), text.index("[paper]")
    table = '[[table]]\nname = "mine"\nexperiments = ["mine"]\n\n'
    head = text[:start].replace("schema = 1\n", f"schema = 1\n{FILES}")
    project.spec.write_text(head + EXPERIMENT + "\n" + table + text[end:])
    (project.spec.parent / "last_words.py").write_text(EXAMPLE)
    return project


def test_the_page_s_arm_is_short_runs_and_stands_in_the_table(own: Project) -> None:
    assert len(EXAMPLE.splitlines()) < 60
    own.run("run", "small.toml")
    table = (own.folder / "paper" / "tables" / "mine.tex").read_text()
    assert "last\\_words" in table
    found = [
        json.loads(p.read_text()) for p in own.folder.glob("runs/evaluate-*/*/evaluation.json")
    ]
    assert {record["arm"] for record in found} == {"last_words"}


def test_what_a_file_says_of_deviations_stands_below_its_table(own: Project) -> None:
    said = '"""Last words.\n\nDeviations: `words` are\ncounted by spaces.\n\nMore.'
    file = own.spec.parent / "last_words.py"
    file.write_text(EXAMPLE.replace('"""The receiver reads the last words of the text.', said, 1))
    own.run("run", "small.toml")
    table = (own.folder / "paper" / "tables" / "mine.tex").read_text()
    noted = r"last\_words departs from its source: words are counted by spaces."
    assert noted in " ".join(table.split())
    assert "More." not in table


def test_a_changed_file_is_another_arm(own: Project) -> None:
    before = jobs(own)
    file = own.spec.parent / "last_words.py"
    file.write_text(EXAMPLE.replace("[-setup", "[:setup"))
    assert len(jobs(own) - before) == 1


def test_a_changed_file_is_named_where_the_plan_differs(own: Project) -> None:
    plan = open_session(own.spec, own.folder / "results.db", own.runs).plan
    earlier = {
        f"{job}-before": {**record, "settings": {**record["settings"], "arm_sha256": "0" * 64}}
        for job, record in plan_record(plan)["jobs"].items()
        if "arm_sha256" in record["settings"]
    }
    (changed,) = compare(plan, earlier).changed
    assert changed.endswith(": last_words.py changed")


def test_a_job_runs_the_file_as_it_was_submitted_and_no_other(own: Project) -> None:
    """Edits of the person's file change nothing; one of the copy that jobs run is refused."""
    own.run("submit", "small.toml")
    (own.spec.parent / "last_words.py").write_text("raise SystemExit('edited')\n")
    (kept,) = own.runs.glob("arms/*/last_words.py")
    for path in own.runs.glob("evaluate-*/job.json"):
        if json.loads(path.read_text())["settings"]["arm"] == "last_words":
            job = path.parent
    for number, edit, status in ((2, "", 0), (3, "# another\n", 1)):
        kept.write_text(kept.read_text() + edit)
        shutil.rmtree(job / "taken")
        done = subprocess.run(
            [sys.executable, "-m", "lwspec.kernels.run", str(job)],
            cwd=own.folder, env=ENVIRONMENT, check=False,
        )  # fmt: skip
        assert done.returncode == status
        said = (job / f"attempt-{number}" / "exit.json").read_text()
        assert ("has changed since it was planned" in said) == bool(edit)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_of_this_name\n", "cannot be imported: ModuleNotFoundError"),
        ("x = 1\n", "defines no ARM"),
        (EXAMPLE.replace('name="last_words"', 'name="bridge"'), "there is an arm 'bridge' already"),
        (EXAMPLE.replace('name="last_words"', 'name="train"'), "which is a key of specs"),
        (EXAMPLE.replace('tokens="words"', 'tokens="wordz"'), "which is no setting of the arm"),
        (EXAMPLE.replace('"answer", ', '"anser", '), "did you mean 'answer'"),
        ("raise SystemExit(3)\n", "cannot be imported: SystemExit"),
    ],
)
def test_a_file_that_is_no_arm_is_refused(own: Project, text: str, said: str) -> None:
    (own.spec.parent / "last_words.py").write_text(text)
    done = own.run("plan", "small.toml", status=2)
    assert said in done.stderr
    assert "last_words.py" in done.stderr


def test_a_file_that_is_missing_is_refused(own: Project) -> None:
    (own.spec.parent / "last_words.py").unlink()
    done = own.run("plan", "small.toml", status=2)
    assert "no Python file stands here" in done.stderr


def test_an_arm_for_one_model_is_refused_for_two(own: Project) -> None:
    file = own.spec.parent / "last_words.py"
    file.write_text(
        EXAMPLE.replace('tokens="words",', 'tokens="words",\n        pair="same_model",')
    )
    done = own.run("plan", "small.toml", status=2)
    assert "last_words needs one model as sender and receiver" in done.stderr
    own.change('sender = "llama"', 'sender = "mistral"')
    own.run("plan", "small.toml")


def test_a_message_over_the_bytes_that_are_granted_is_refused(project: Project) -> None:
    project.keep("main")
    project.change('arms = ["bridge"]', 'arms = ["bridge"]\nevaluate = { max_bytes = 191 }')
    done = project.run("plan", "small.toml", status=2)
    assert "a message of bridge takes up to 192 bytes; evaluate.max_bytes is 191" in done.stderr
    project.change("max_bytes = 191", "max_bytes = 192")
    wide = jobs(project)
    project.change("max_bytes = 192 }", 'max_bytes = 104, precision = "int8" }')
    assert len(jobs(project) - wide) == 2
    project.change("{ max_bytes = 104, ", "{ ")
    assert len(jobs(project) - wide) == 2


def test_a_text_of_any_length_is_refused_where_bytes_are_granted(own: Project) -> None:
    own.change('name = "mine"\narms', 'name = "mine"\nevaluate = { max_bytes = 64 }\narms')
    done = own.run("plan", "small.toml", status=2)
    assert "a message of last_words is of no known length" in done.stderr
