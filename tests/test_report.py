"""The report: from the records, from nothing else, the same twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest
from conftest import Project
from pypdf import PdfReader

from lwspec.report.latex import escape, macro_name


@pytest.fixture(scope="module")
def reported(finished: Project) -> Project:
    finished.run("report", "small.toml", "--paper", "paper")
    return finished


def test_the_paper_is_compiled_and_holds_the_recorded_numbers(reported: Project) -> None:
    assert shutil.which("latexmk"), "install latexmk and TeX Live to test the paper"
    text = "".join(
        page.extract_text() for page in PdfReader(reported.folder / "paper/small.pdf").pages
    )
    for path in reported.runs.glob("evaluate-*/attempt-1/evaluation.json"):
        record = json.loads(path.read_text())
        if record["seed"] is None:
            assert f"{100 * record['metrics']['accuracy']:.1f}" in text
    assert "small_models & friends, 100%" in text.replace("\n", " ")
    assert "2 of 2" in text


def test_the_same_records_give_the_same_bytes(reported: Project) -> None:
    reported.run("report", "small.toml", "--paper", "again")
    one, two = reported.folder / "paper", reported.folder / "again"
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    assert len(files) == 5
    for file in files:
        assert (one / file).read_bytes() == (two / file).read_bytes(), file


def test_without_a_finished_run_there_is_no_paper(project: Project) -> None:
    done = project.run("report", "small.toml", "--paper", "paper", status=1)
    assert "no run of this spec has finished" in done.stderr
    assert not (project.folder / "paper").exists()


def test_missing_seeds_are_shown_and_refused_when_strict(
    copy_of_finished: Callable[[], Project],
) -> None:
    project = copy_of_finished()
    for path in project.runs.glob("evaluate-*/job.json"):
        if json.loads(path.read_text())["label"] == "bridge colour s2":
            shutil.rmtree(path.parent)
    done = project.run("report", "small.toml", "--paper", "paper")
    assert "bridge/colour: 1 of 2 runs; missing: bridge colour s2" in done.stdout
    table = (project.folder / "paper/tables/main.tex").read_text()
    assert "1 of 2" in table
    strict = project.run("report", "small.toml", "--paper", "paper", "--strict", status=1)
    assert "1 gaps" in strict.stderr


def test_a_deleted_run_leaves_the_database_at_a_rescan(
    copy_of_finished: Callable[[], Project],
) -> None:
    project = copy_of_finished()
    project.run("report", "small.toml", "--paper", "paper")
    for path in project.runs.glob("evaluate-*/job.json"):
        if json.loads(path.read_text())["label"] == "bridge colour s2":
            shutil.rmtree(path.parent)
    project.run("status", "small.toml", "--rescan")
    assert "1 of 2" in project.run("report", "small.toml", "--paper", "paper").stdout


def test_a_template_that_names_something_unknown(finished: Project) -> None:
    template = finished.folder / "paper.tex"
    text = template.read_text()
    try:
        template.write_text(text.replace(r"\VAR{title}", r"\VAR{titel}"))
        done = finished.run("report", "small.toml", "--paper", "other", status=1)
        assert "did you mean: title" in done.stderr
        template.write_text(text.replace(r"\BLOCK{endfor}", "", 1))
        done = finished.run("report", "small.toml", "--paper", "other", status=1)
        assert "paper.tex:" in done.stderr
    finally:
        template.write_text(text)


def test_why_leads_from_a_number_to_its_runs(reported: Project) -> None:
    for ref in ("tables/main.tex:bridge/colour", r"\MainBridgeColour"):
        chain = json.loads(reported.run("why", ref, "--json").stdout)
        kinds = [(job["kind"], job["label"]) for job in chain["jobs"]]
        assert ("evaluate", "bridge colour s1") in kinds
        assert ("fit", "bridge colour s2") in kinds
        assert ("prepare", "states llama colour") in kinds
        assert chain["runs"] == "2 of 2"
        for job in chain["jobs"]:
            assert all(len(sha) == 64 for sha in job["files"].values())
            for attempt in job["attempts"].values():
                assert "lwspec.kernels.run" in attempt["command"]
    shown = reported.run("why", r"\MainBridgeColour").stdout
    assert "small.toml:" in shown
    assert "predictions/test.parquet" in shown
    assert (
        "did you mean: MainBridgeColour"
        in reported.run("why", r"\MainBrigeColour", status=2).stderr
    )


def test_text_cannot_break_latex() -> None:
    assert escape(r"a_b % & # $ { } \ ~ ^") == (
        r"a\_b \% \& \# \$ \{ \} \textbackslash{} \textasciitilde{} \textasciicircum{}"
    )


def test_macro_names_hold_letters_alone() -> None:
    assert macro_name("main", "linear_probe", "sst2") == "MainLinearProbeSstTwo"
    assert macro_name("a", "b (M=16)", "x-y") == "ABMOneSixXY"
