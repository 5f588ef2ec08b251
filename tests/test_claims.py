"""Claims, and the words that hang on them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable

from conftest import Project
from papers import MINIMAL, template, why

Copy = Callable[[], Project]

CLAIM = """
[[claim]]
name = "{name}"
says = "Bought: {{left}} against {{right}}, by {{gap}}."
otherwise = "Not bought."
left = "{left}"
right = {right}
{rest}
"""


def with_claims(project: Project, *claims: str) -> Project:
    project.write(project.spec.read_text() + "\n".join(claims))
    return project


def claim(name: str, left: str, right: str, rest: str = "") -> str:
    return CLAIM.format(name=name, left=left, right=right, rest=rest)


def test_each_relation_is_judged_and_has_its_consequence(copy_of_finished: Copy) -> None:
    row = "main:receiver_direct/colour"
    project = with_claims(
        copy_of_finished(),
        claim("high", row, "-1.0"),
        claim("low", row, "-1.0", 'relation = "below"'),
        claim("near", row, "50.0", 'relation = "within"\nmargin = 100.0'),
        claim("ratio", row, '"main:sender_direct/colour"', 'relation = "times"\nfactor = 0.001'),
        claim("seeds", "main:bridge/*", "-1.0", 'untested = "Too few."'),
        claim("silent", "main:bridge/*", "-1.0", 'words = ["triumph"]').replace(
            "Bought:", "A triumph:"
        ),
    )
    done = project.run("report", "small.toml", "--paper", "paper")
    said = [line.split(": ", 1) for line in done.stdout.splitlines() if line.startswith("claim")]
    verdicts = {name.removeprefix("claim "): rest for name, rest in said}
    assert verdicts["high"].startswith("supported p < 0.001")
    assert verdicts["low"] == "not supported p = 1.000"
    assert verdicts["near"].startswith("supported")
    assert verdicts["ratio"].startswith("supported")
    assert verdicts["seeds"] == "untested bridge has fewer than 3 seeds"
    assert verdicts["silent"] == "untested bridge has fewer than 3 seeds"
    numbers = (project.folder / "paper/numbers.tex").read_text()
    assert r"\newcommand{\ClaimLow}{Not bought.}" in numbers
    assert r"\newcommand{\ClaimSeeds}{Too few.}" in numbers
    assert r"\newcommand{\ClaimSilent}{The claim silent was not tested.}" in numbers
    high = next(line for line in numbers.splitlines() if r"\ClaimHigh}" in line)
    row_text = (project.folder / "paper/tables/main.tex").read_text()
    value = high.split("Bought: ")[1].split(" against")[0]
    assert rf"receiver\_direct & {value} " in row_text
    markdown = (project.folder / "paper/results.md").read_text()
    assert "**ratio**: supported" in markdown
    assert "ratio to 0.001" in markdown
    assert "against -1.0: " in markdown
    assert why(project, "high")["held"].endswith(" against -1.0")
    chain = why(project, "ratio")
    labels = {job["label"] for job in chain["jobs"]}
    assert {"receiver_direct colour", "sender_direct colour"} <= labels
    for name in (r"\ClaimRatio", "CLAIM_RATIO"):
        assert why(project, name)["verdict"].startswith("sup")


def test_arms_with_the_same_predictions_are_judged_as_the_table_tests_them(
    copy_of_finished: Copy,
) -> None:
    project = copy_of_finished()
    project.change(
        '[[experiment]]\nname = "relay"',
        '[[experiment]]\nname = "again"\narms = ["no_message"]\n\n[[experiment]]\nname = "relay"',
    )
    project.change(
        'experiments = ["direct",',
        'compare = { to = "no_message, direct" }\nexperiments = ["direct", "again",',
    )
    row, other = "main:no_message, again/colour", '"main:no_message, direct/colour"'
    with_claims(
        project,
        claim("more", row, other),
        claim("less", row, other, 'relation = "below"'),
        claim("often", row, other, 'relation = "times"'),
        claim("near", row, other, 'relation = "within"\nmargin = 5.0'),
        claim("far", row, other, 'relation = "within"\nmargin = 30.0'),
    )
    done = project.run("report", "small.toml", "--paper", "paper")
    for name in ("more", "less", "often", "near"):
        assert f"claim {name}: not supported p = " in done.stdout
    assert "claim far: supported p < 0.001" in done.stdout
    assert why(project, "more")["verdict"] == "not supported p = 1.000"
    said = why(project, "far")
    assert said["test"].startswith("By an exact test over items, which all score alike, 30 items")
    assert "by 0.0 [-9.5, 9.5]." in said["text"]
    with (project.folder / "paper/tables/main.tests.csv").open() as file:
        tests = {row["row"]: row["p"] for row in csv.DictReader(file)}
    assert tests["no_message, again"] == "1.000"


def test_a_claim_about_an_entry_that_no_table_has(copy_of_finished: Copy) -> None:
    project = with_claims(copy_of_finished(), claim("odd", "main:bride/colour", "1.0"))
    done = project.run("plan", "small.toml", status=2)
    assert "small.toml:" in done.stderr
    assert "did you mean: main:bridge/colour" in done.stderr


def test_words_hang_on_claims(copy_of_finished: Copy) -> None:
    project = with_claims(
        copy_of_finished(),
        claim("good", "main:receiver_direct/colour", "-1.0", 'words = ["miracle"]'),
        claim("bad", "main:receiver_direct/colour", "200.0", 'words = ["wonder"]'),
    )
    template(project, MINIMAL % "A miracle. % no wonder here\na\\\\% no wonder")
    project.run("report", "small.toml", "--paper", "paper")
    template(project, MINIMAL % "A miracle.\nIt works Wonders.")
    before = (project.folder / "paper/small.tex").read_bytes()
    done = project.run("report", "small.toml", "--paper", "paper", status=1)
    assert "paper.tex:4: the paper says 'wonder'" in done.stderr
    assert "'bad'" in done.stderr
    project.change('words = ["wonder"]', 'words = ["better than"]')
    template(project, MINIMAL % "It is better\n  than all.")
    done = project.run("report", "small.toml", "--paper", "paper", status=1)
    assert "paper.tex:3: the paper says 'better than'" in done.stderr
    assert (project.folder / "paper/small.tex").read_bytes() == before
    project.change('title = "A small test"', 'title = "A small test"\nnever = ["telepath"]')
    template(project, MINIMAL % "It works telepathically.")
    done = project.run("report", "small.toml", "--paper", "paper", status=1)
    assert "paper.tex:3: the paper says 'telepath'" in done.stderr


def test_a_forbidden_word_is_named_where_the_spec_or_the_template_has_it(
    copy_of_finished: Copy,
) -> None:
    project = copy_of_finished()
    project.change(
        'title = "A small test"', 'title = "100% of telepathy"\nnever = ["telepath", "odd one"]'
    )
    project.change('caption = "Learning."', 'caption = "Telepathic curves."')
    project.change("friends, 100%.", "friends. The odd\\n one.")
    with_claims(project, claim("good", "main:receiver_direct/colour", "-1.0"))
    project.change("Bought:", "Telepaths win:")
    line = "\\BLOCK{for figure in figures}\\VAR{figure.caption}\\BLOCK{endfor}"
    template(project, MINIMAL % f"\\VAR{{title}}\n{line}\n\nBy telepathy")
    assert "paper, forbidden" in project.run("plan", "small.toml").stdout
    told = json.loads(project.run("plan", "small.toml", "--json").stdout)["paper"]["forbidden"]
    planned = "\n".join(told)
    done = project.run("report", "small.toml", "--paper", "paper", status=1)
    lines = project.spec.read_text().splitlines()
    for start, who, word in (
        ("title =", "the title", "telepath"),
        ('caption = "Telep', "the caption of figure 'curves'", "telepath"),
        ('caption = "Accur', "the caption of table 'main'", "odd one"),
    ):
        number = 1 + next(i for i, text in enumerate(lines) if text.startswith(start))
        for shown in (planned, done.stderr):
            assert f"small.toml:{number}:1: {who} says {word!r}" in shown
    for shown in (planned, done.stderr):
        assert "the claim 'good' says 'telepath'" in shown
        assert "paper.tex:6: the paper says 'telepath'; the spec's [paper] forbids it" in shown
    assert len(told) == 5
