"""The report: from the records, from nothing else, the same twice."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, Project
from pypdf import PdfReader

from lwspec.cli.session import open_session
from lwspec.engine.runs.jsonfile import read_json, write_json
from lwspec.engine.runs.process import this_process
from lwspec.report.paper.latex import escape, macro_name
from lwspec.report.statistics.intervals import Estimate
from lwspec.report.tables.plain import _digits

LATEX = shutil.which("latexmk") is not None


@pytest.fixture(scope="module")
def reported(finished: Project) -> Project:
    finished.run("report", "small.toml", "--paper", "paper")
    return finished


@pytest.mark.skipif(not LATEX, reason="latexmk is not installed")
def test_the_paper_is_compiled_and_holds_the_recorded_numbers(reported: Project) -> None:
    text = "".join(
        page.extract_text() for page in PdfReader(reported.folder / "paper/small.pdf").pages
    )
    for path in reported.runs.glob("evaluate-*/attempt-1/evaluation.json"):
        record = json.loads(path.read_text())
        if record["seed"] is None:
            assert f"{100 * record['metrics']['accuracy']:.1f}" in text
    assert "small_models & friends, 100%" in text.replace("\n", " ")
    assert "2 of 2" in text


def test_notes_that_could_outgrow_a_page_stand_behind_the_float(reported: Project) -> None:
    """A float does not break over pages: what is too long in it would be cut off."""
    table = (reported.folder / "paper/tables/main.tex").read_text()
    inside, behind = table.split(r"\end{table}")
    assert "Test items: colour 30." in inside
    assert "departs from its source" not in inside
    assert r"Notes to Table~\ref{tab:main}. bridge departs from its source: " in behind


def test_the_same_records_give_the_same_bytes(reported: Project) -> None:
    reported.run("report", "small.toml", "--paper", "again")
    one, two = reported.folder / "paper", reported.folder / "again"
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    assert len(files) == (7 if LATEX else 6)
    for file in files:
        assert (one / file).read_bytes() == (two / file).read_bytes(), file


def test_without_latex_there_is_a_message_and_everything_else(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "git").symlink_to(str(shutil.which("git")))
    monkeypatch.setitem(ENVIRONMENT, "PATH", str(tmp_path))
    done = finished.run("report", "small.toml", "--paper", str(tmp_path / "paper"))
    assert "latexmk is not installed" in done.stdout
    assert (tmp_path / "paper/tables/main.tex").exists()


def test_two_experiments_with_one_arm_keep_their_rows_apart(
    copy_of_finished: Callable[[], Project],
) -> None:
    project = copy_of_finished()
    project.change(
        '[[experiment]]\nname = "probe"',
        '[[experiment]]\nname = "wide"\narms = ["bridge"]\n'
        "bridge = { layer = 1, latents = 8, width = 16, depth = 1, heads = 2 }\n\n"
        '[[experiment]]\nname = "probe"',
    )
    project.change('"probe", "main"]', '"probe", "main", "wide"]\nunequal = "two sizes"')
    project.run("report", "small.toml", "--paper", "paper")
    table = (project.folder / "paper/tables/main.tex").read_text()
    assert "bridge, main & " in table
    assert r"bridge, wide & \multicolumn{2}{c}{\textit{not run}}" in table
    assert "\u201cnot run\u201d: not finished yet, 2 runs in all." in table
    assert "finished of the runs" not in table
    assert "100\\%. In per cent." in table
    project.change('caption = "Accuracy of small_models & friends, 100%."\n', "")
    project.run("report", "small.toml", "--paper", "paper")
    table = (project.folder / "paper/tables/main.tex").read_text()
    assert r"\caption{Accuracy, in per cent." in table


def test_a_figure_says_which_seeds_it_lacks(copy_of_finished: Callable[[], Project]) -> None:
    project = copy_of_finished()
    for path in project.runs.glob("fit-*/job.json"):
        if json.loads(path.read_text())["label"] == "bridge colour s2":
            (path.parent / "taken/epoch-002.json").unlink()
            (path.parent / "attempt-1/outputs/epoch-002.json").unlink()
    done = project.run("report", "small.toml", "--paper", "paper")
    assert "figure curves, bridge colour s2: 1 of 2 epochs" in done.stdout
    project.run("report", "small.toml", "--paper", "paper", "--strict", status=1)


def test_a_report_in_place_of_another_spec_s_says_so(
    copy_of_finished: Callable[[], Project],
) -> None:
    project = copy_of_finished()
    said = "paper/ held the report of {}, which this replaces"
    assert "which this replaces" not in project.run("report", "small.toml").stdout
    results = project.folder / "paper" / "results.md"
    results.write_text(results.read_text().replace("# small\n", "# other\n", 1))
    assert said.format("other") in project.run("report", "small.toml").stdout
    assert "which this replaces" not in project.run("report", "small.toml").stdout


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
    row = next(line for line in table.splitlines() if line.startswith("bridge &"))
    assert row.endswith(r"{\scriptsize 1 of 2} & 1 of 2 \\")
    assert "\u201c1 of 2\u201d: finished of the runs that are planned, 1 run missing." in table
    assert "not run" not in table
    strict = project.run("report", "small.toml", "--paper", "paper", "--strict", status=1)
    assert "lwspec: 1 gap\n" in strict.stderr


def test_a_deleted_run_leaves_the_database(
    copy_of_finished: Callable[[], Project],
) -> None:
    project = copy_of_finished()
    project.run("report", "small.toml", "--paper", "paper")
    for path in project.runs.glob("evaluate-*/job.json"):
        if json.loads(path.read_text())["label"] == "bridge colour s2":
            shutil.rmtree(path.parent)
    assert "1 of 2" in project.run("report", "small.toml", "--paper", "paper").stdout


def test_a_template_that_names_something_unknown(finished: Project) -> None:
    template = finished.folder / "paper.tex"
    text = template.read_text()
    try:
        wrong = text.replace(r"\VAR{title}", r"\VAR{titel}\input{tables/mian}\VAR{evidense.jobs}")
        template.write_text(wrong)
        done = finished.run("report", "small.toml", "--paper", "other", status=1)
        assert r"nothing fills \VAR{titel} (did you mean title?)" in done.stderr
        assert r"nothing fills \VAR{evidense}" in done.stderr
        assert r"no experiment fills \input{tables/mian}" in done.stderr
        template.write_text(text.replace(r"\BLOCK{endfor}", "", 1))
        done = finished.run("report", "small.toml", "--paper", "other", status=1)
        assert "paper.tex:" in done.stderr
    finally:
        template.write_text(text)


@pytest.mark.parametrize("damage", ["gone", "changed"])
@pytest.mark.parametrize("what", ["predictions", "weights"])
def test_a_number_whose_evidence_is_damaged_is_not_rendered(
    what: str, damage: str, copy_of_finished: Callable[[], Project]
) -> None:
    project = copy_of_finished()
    project.run("report", "small.toml", "--html", "page.html")  # the hashes of weights are kept
    path = next(project.runs.glob("evaluate-*/attempt-1/predictions/test.parquet"))
    if what == "weights":
        record = read_json(next(project.runs.glob("evaluate-*/attempt-1/evaluation.json")))
        checkpoint = record["checkpoint"]
        epoch = f"epoch-{checkpoint['epoch']:03d}.safetensors"
        path = project.runs / checkpoint["fit"] / "attempt-1/weights" / epoch
    if damage == "gone":
        path.unlink()
    else:
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 1
        path.write_bytes(raw)
    for verb in (
        ("report", "small.toml", "--paper", "paper"),
        ("why", r"\MainBridgeColour", "--spec", "small.toml"),
    ):
        done = project.run(*verb, status=1)
        assert damage in done.stderr
        assert str(path.relative_to(project.folder)) in done.stderr
    assert not (project.folder / "paper").exists()


def test_a_number_whose_fit_was_deleted_is_missing(
    copy_of_finished: Callable[[], Project],
) -> None:
    project = copy_of_finished()
    fit = next(p for p in project.runs.glob("fit-*") if "s2" in read_json(p / "job.json")["label"])
    shutil.rmtree(fit)
    said = project.run("report", "small.toml", "--rescan", "--strict", status=1)
    assert "bridge colour s2" in said.stdout
    assert "1 of 2" in (project.folder / "paper/tables/main.tex").read_text()


def test_a_deleted_input_is_made_again(copy_of_finished: Callable[[], Project]) -> None:
    project = copy_of_finished()
    project.run("status", "small.toml")
    states = next(
        p for p in project.runs.glob("prepare-*") if '"states"' in (p / "job.json").read_text()
    )
    shutil.rmtree(states)
    project.change("seeds = [1, 2]", "seeds = [1, 2, 3]")
    project.run("submit", "small.toml", "--yes")
    assert (states / "taken/test.json").exists()


def test_why_leads_from_a_number_to_its_runs(reported: Project) -> None:
    for ref in ("tables/main.tex:bridge/colour", r"\MainBridgeColour"):
        chain = json.loads(reported.run("why", ref, "--json").stdout)
        kinds = [(job["kind"], job["label"]) for job in chain["jobs"]]
        assert ("evaluate", "bridge colour s1") in kinds
        assert ("fit", "bridge colour s2") in kinds
        assert ("prepare", "states llama colour layer=1") in kinds
        assert chain["runs"] == "2 of 2"
        for job in chain["jobs"]:
            assert all(len(sha) == 64 for sha in job["files"].values())
            for attempt in job["attempts"].values():
                assert "lwspec.kernels.run" in attempt["command"]
    shown = reported.run("why", r"\MainBridgeColour").stdout
    assert "small.toml:" in shown
    assert "predictions/test.parquet" in shown
    assert "did you mean: fit bridge" in reported.run("why", "fit brigde", status=2).stderr
    assert (
        "did you mean: MainBridgeColour"
        in reported.run("why", r"\MainBrigeColour", status=2).stderr
    )


@pytest.mark.parametrize(
    ("ref", "label"),
    [
        ("MAIN_BRIDGE_COLOUR", "bridge colour s1"),
        (r"\VAR{MAIN_BRIDGE_COLOUR_LOW}", "bridge colour s1"),
        ("evaluate bridge colour s1", "bridge colour s1"),
        ("text_relay colour", "text_relay colour"),
        ("prepare states llama colour layer=1", "states llama colour layer=1"),
        ("main", "receiver_direct colour"),
        ("tables/main.csv", "receiver_direct colour"),
        ("curves", "bridge colour s2"),
        ("figures/curves.pdf", "bridge colour s2"),
    ],
)
def test_why_takes_every_name_that_is_shown(reported: Project, ref: str, label: str) -> None:
    jobs = json.loads(reported.run("why", ref, "--json").stdout)["jobs"]
    assert label in {job["label"] for job in jobs}
    assert all(job["state"] == "done" and job["attempts"] for job in jobs)


def test_why_says_what_has_not_run_and_what_runs(copy_of_finished: Callable[[], Project]) -> None:
    project = copy_of_finished()
    project.change("seeds = [1, 2]", "seeds = [3]")
    shown = project.run("why", "main:bridge/colour", "--spec", "small.toml").stdout
    assert "None" not in shown and "method   not run\n" in shown
    found = project.run("plan", "small.toml", "--json").stdout
    job = next(
        each["id"] for each in json.loads(found)["jobs"] if each["kind"] == "fit" and each["owed"]
    )
    session = open_session(project.spec, project.folder / "results.db", project.runs)
    folder = session.runs.folder(job)
    its = session.plan.expansion.jobs[job].to_json()
    write_json(folder.path / "job.json", {**its, "spec": "small", "allowance_s": 9.0})
    started = {"started_at": 1e9, "evidence": {"process": this_process()}}
    write_json(folder.begin_attempt().path / "started.json", started)
    shown = project.run("why", job, "--spec", "small.toml").stdout
    assert "[running]" in shown and "outcome   running since 2001-09-09 01:46:40 UTC" in shown
    assert " 0.0 s" not in shown and " 0 MiB" not in shown


def test_a_page_alone_says_that_the_paper_is_as_it_was(
    copy_of_finished: Callable[[], Project],
) -> None:
    project, said = copy_of_finished(), "paper/ was left as it was: add --paper paper"
    assert said not in project.run("report", "small.toml", "--html", "page.html").stdout
    (project.folder / "paper").mkdir()
    assert said in project.run("report", "small.toml", "--html", "page.html").stdout


def test_tables_as_csv_have_no_digits_that_were_not_measured(reported: Project) -> None:
    estimate = Estimate(100 * 0.482, 100 * 0.07, None, "none")
    assert 100 * 0.482 != 48.2
    assert _digits(estimate) == ["48.2", "7", None] and _digits(None) == [None] * 3
    with (reported.folder / "paper/tables/main.csv").open(newline="") as file:
        found = [row["value"] for row in csv.DictReader(file)]
    assert found and all(len(value) <= 11 for value in found)


def test_a_prompt_is_shown_on_a_line_and_the_paper_says_how(reported: Project) -> None:
    paper = (reported.folder / "paper/small.tex").read_text()
    assert r"Text: \{context\}\textbackslash{}nColour:" in paper
    assert r"(\texttt{\textbackslash n} is the end of a line)" in paper


def test_text_cannot_break_latex() -> None:
    assert escape(r"a_b % & # $ { } \ ~ ^") == (
        r"a\_b \% \& \# \$ \{ \} \textbackslash{} \textasciitilde{} \textasciicircum{}"
    )


def test_macro_names_hold_letters_alone() -> None:
    assert macro_name("main", "linear_probe", "sst2") == "MainLinearProbeSstTwo"
    assert macro_name("a", "b (M=16)", "x-y") == "ABMOneSixXY"
