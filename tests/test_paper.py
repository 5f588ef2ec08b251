"""The paper against the plan: its template, names that LaTeX reads."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import unicodedata
from collections.abc import Callable

import pytest
from conftest import ROOT, Project
from papers import MINIMAL, template, why
from pypdf import PdfReader

LATEX = shutil.which("latexmk") is not None
Copy = Callable[[], Project]


def test_the_plan_says_what_the_paper_asks_for_in_vain(project: Project) -> None:
    template(
        project,
        MINIMAL % "\\input{tables/main}\n\\input{tables/mian.tex}\n% \\input{tables/none}\n"
        "\\includegraphics[width=1cm]{figures/gone}\n\\VAR{MAIN_BRIDGE_COLUOR}\n\\VAR{title}",
    )
    shown = project.run("plan", "small.toml").stdout
    assert r"paper.tex:4: no experiment fills \input{tables/mian.tex}" in shown
    assert "did you mean tables/main.tex?" in shown
    assert r"paper.tex:6: no experiment fills \includegraphics{figures/gone}" in shown
    assert r"paper.tex:7: nothing fills \VAR{MAIN_BRIDGE_COLUOR}" in shown
    assert "did you mean MAIN_BRIDGE_COLOUR" in shown
    assert "tables/none" not in shown
    assert "shows nothing" not in shown
    told = json.loads(project.run("plan", "small.toml", "--json").stdout)["paper"]
    assert len(told["unfilled"]) == 3


def test_what_the_report_writes_is_never_taken_from_beside_the_template(
    copy_of_finished: Copy,
) -> None:
    project = copy_of_finished()
    template(
        project,
        "\\documentclass{article}\n\\usepackage{adjustbox,booktabs,graphicx}\n\\begin{document}\n"
        "\\input{numbers}\\input tables/main\n\\includegraphics{./figures/curves}\n\\end{document}",
    )
    old = {"numbers.tex": "old", "tables/main.tex": r"99.9 \VAR{gone}", "figures/curves.pdf": "%"}
    for path, text in old.items():
        (project.folder / path).parent.mkdir(exist_ok=True)
        (project.folder / path).write_text(text)
    told = json.loads(project.run("plan", "small.toml", "--json").stdout)["paper"]
    assert told["unfilled"] == []
    project.run("report", "small.toml", "--paper", "paper")
    for path, text in old.items():
        assert (project.folder / "paper" / path).read_bytes() != text.encode()
    assert "99.9" not in (project.folder / "paper/tables/main.tex").read_text()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (r"\input tables/none", r"no experiment fills \input{tables/none}"),
        (r"\includegraphics*{figures/none}", r"no experiment fills \includegraphics{figures/none}"),
        (r"\input{../outside}", r"no experiment fills \input{../outside}"),
    ],
)
def test_every_way_to_read_a_file_is_seen_and_none_leaves_the_folder(
    project: Project, body: str, said: str
) -> None:
    template(project, MINIMAL % body)
    (project.folder.parent / "outside.tex").write_text("x")
    assert f"paper.tex:3: {said}" in project.run("plan", "small.toml").stdout


@pytest.mark.parametrize("body", [r"\VAR{1/0}", r"\VAR{title()}", r'\BLOCK{include "x"}'])
def test_a_template_whose_own_expression_fails_is_named_with_its_line(
    copy_of_finished: Copy, body: str
) -> None:
    project = copy_of_finished()
    template(project, MINIMAL % body)
    done = project.run("report", "small.toml", "--paper", "paper", status=1)
    assert "paper.tex:3: the template cannot be filled" in done.stderr


@pytest.mark.parametrize("path", ["tables/main.tex", "numbers.tex", "small.tex"])
def test_no_two_artefacts_are_written_to_one_place(project: Project, path: str) -> None:
    block = f'\n[[table]]\nname = "b"\nexperiments = ["main"]\npath = "{path}"\n'
    project.write(project.spec.read_text() + block)
    done = project.run("plan", "small.toml", status=2)
    assert f"{path!r} is written twice" in done.stderr


def test_names_that_become_one_file_are_refused(project: Project) -> None:
    block = '\n[[table]]\nname = "{}"\nexperiments = ["main"]\n'
    project.write(project.spec.read_text() + block.format("a%") + block.format("a#"))
    assert "'tables/a-.tex' is written twice" in project.run("plan", "small.toml", status=2).stderr
    project.change('name = "a#"', 'name = "b"\npath = "tables/b~c.tex"')
    done = project.run("plan", "small.toml", status=2)
    assert 'path: LaTeX takes none of % # { } \\ ~ ^ $ " in the name of a file' in done.stderr


@pytest.mark.skipif(not LATEX, reason="latexmk is not installed")
def test_tables_and_figures_of_any_name_are_read_by_latex(copy_of_finished: Copy) -> None:
    project = copy_of_finished()
    project.change('[[table]]\nname = "main"', "[[table]]\nname = 'a%#{}\\~^$\" ü, b'")
    project.change(
        '[[figure]]\nname = "curves"',
        '[[figure]]\nname = "placed"\nkind = "learning_curves"\nexperiments = ["main"]\n'
        "path = 'a b/ü, c.pdf'\n\n[[figure]]\nname = '9$ %'",
    )
    project.run("report", "small.toml", "--paper", "paper")
    files = {
        str(p.relative_to(project.folder / "paper"))
        for p in project.folder.rglob("*.*")
        if p.is_relative_to(project.folder / "paper")
    }
    made = {"tables/a--------- ü, b.tex", "figures/9- -.pdf", "a b/ü, c.pdf", "small.pdf"}
    assert made <= files
    assert why(project, 'a%#{}\\~^$" ü, b:bridge/colour')["runs"] == "2 of 2"


def test_the_plan_says_which_experiments_no_paper_uses(project: Project) -> None:
    template(project, MINIMAL % r"\MainBridgeColour{} and \VAR{MAIN_TEXT_RELAY_COLOUR_LOW}")
    told = json.loads(project.run("plan", "small.toml", "--json").stdout)["paper"]
    assert told["unused"] == ["probe", "direct"]
    assert not any(told[key] for key in ("unfilled", "forbidden", "by_hand"))


def test_the_report_refuses_a_paper_that_asks_in_vain(copy_of_finished: Copy) -> None:
    project = copy_of_finished()
    template(project, MINIMAL % r"\includegraphics{figures/curve}")
    done = project.run("report", "small.toml", "--paper", "paper", status=1)
    assert "did you mean figures/curves.pdf" in done.stderr
    assert not (project.folder / "paper").exists()


@pytest.mark.skipif(not LATEX, reason="latexmk is not installed")
def test_an_existing_paper_is_filled_where_it_looks(copy_of_finished: Copy) -> None:
    project = copy_of_finished()
    home = project.folder / "manuscript"
    (home / "sections").mkdir(parents=True)
    (home / "main.tex").write_text(
        "\\documentclass{article}\n\\usepackage{adjustbox,booktabs,graphicx}\n\\begin{document}\n"
        "\\input{sections/results}\\bibliography{refs}\\bibliographystyle{plain}\n"
        "\\includegraphics{logo}\n\\includegraphics{runs/8epoch_pereval/figures/training}\n"
        "\\end{document}\n"
    )
    (home / "sections/results.tex").write_text(
        "We reach \\VAR{LATENT_WIRE_COLOUR_ACC}\\%, \\VAR{LATENT_WIRE_COLOUR_ACC_SEEDS} seeds "
        "\\cite{one}. \\input{runs/8epoch_pereval/tables/results_table.tex}"
    )
    (home / "refs.bib").write_text("@misc{one, title={One}, author={A. Author}, year={2020}}")
    project.run("report", "small.toml", "--paper", "first")
    shutil.copy(project.folder / "first/figures/curves.pdf", home / "logo.pdf")
    project.change(
        'template = "paper.tex"',
        'template = "manuscript/main.tex"\n'
        'numbers = { LATENT_WIRE_COLOUR_ACC = "main:bridge/colour" }',
    )
    project.change(
        'name = "main"\nexperiments = ["direct',
        'name = "main"\n'
        'path = "runs/8epoch_pereval/tables/results_table.tex"\nexperiments = ["direct',
    )
    project.change(
        'name = "curves"', 'name = "curves"\npath = "runs/8epoch_pereval/figures/training.pdf"'
    )
    project.run("report", "small.toml", "--paper", "paper")
    text = "".join(p.extract_text() for p in PdfReader(project.folder / "paper/small.pdf").pages)
    assert "2 of 2 seeds" in text
    assert "A. Author" in text
    assert (project.folder / "paper/logo.pdf").exists()
    assert (project.folder / "paper/runs/8epoch_pereval/tables/results_table.csv").exists()
    ref = "runs/8epoch_pereval/tables/results_table.tex:bridge/colour"
    for name in (ref, "LATENT_WIRE_COLOUR_ACC"):
        assert why(project, name)["runs"] == "2 of 2"


def test_a_mistake_in_a_loop_is_named_with_its_line(copy_of_finished: Copy) -> None:
    project = copy_of_finished()
    template(project, MINIMAL % "\\BLOCK{for table in tables}\n\\VAR{table.lable}\n\\BLOCK{endfor}")
    done = project.run("report", "small.toml", "--paper", "paper", status=1)
    assert "paper.tex:4: the template names something unknown" in done.stderr
    assert "'lable'" in done.stderr


@pytest.mark.skipif(not LATEX, reason="latexmk is not installed")
def test_a_spec_without_tables_and_a_caption_of_two_paragraphs(copy_of_finished: Copy) -> None:
    project = copy_of_finished()
    head, rest = project.spec.read_text().split("[[table]]")
    project.write(head + "[[figure]]" + rest.split("[[figure]]")[1])
    project.change('caption = "Learning."', r'caption = "\\input{/etc/passwd}\n\nTwo."')
    project.run("report", "small.toml", "--paper", "paper")
    text = "".join(p.extract_text() for p in PdfReader(project.folder / "paper/small.pdf").pages)
    assert r"\input{/etc/passwd} Two." in text


def test_a_paper_is_never_written_over_its_template(copy_of_finished: Copy) -> None:
    project = copy_of_finished()
    project.change('template = "paper.tex"', 'template = "paper/small.tex"')
    (project.folder / "paper").mkdir()
    shutil.move(project.folder / "paper.tex", project.folder / "paper/small.tex")
    done = project.run("report", "small.toml", "--paper", "paper", status=1)
    assert "written over its own template" in done.stderr


@pytest.mark.skipif(not LATEX, reason="latexmk is not installed")
@pytest.mark.parametrize(
    ("body", "where", "what"),
    [
        (
            r"So \nosuch{x} more",
            "sections/one.tex:2:",
            r"Undefined control sequence after `So \nosuch`",
        ),
        (r"\usepackage{nosuch}", "sections/one.tex:2:", "after `"),
        (r"\textbf{open", "small.tex:3:", "File ended while scanning use of \\textbf"),
        ("A \u2603", "sections/one.tex:2:", "Unicode character"),
    ],
)
def test_what_latex_cannot_read_is_named_with_its_line(
    copy_of_finished: Copy, body: str, where: str, what: str
) -> None:
    project = copy_of_finished()
    template(project, MINIMAL % r"\input{sections/one}")
    (project.folder / "sections").mkdir()
    (project.folder / "sections/one.tex").write_text(f"First.\n{body}\n")
    done = project.run("report", "small.toml", "--paper", "paper", status=1)
    assert f"paper/{where} LaTeX failed: " in done.stderr
    assert what in done.stderr
    assert "next: " in done.stderr


def test_an_alias_must_name_one_number(project: Project) -> None:
    project.change('title = "A small test"', 'title = "A"\nnumbers = { ACC = "main:bridge/*x" }')
    done = project.run("plan", "small.toml", status=2)
    assert "there is no entry 'main:bridge/*x'" in done.stderr
    assert "small.toml:" in done.stderr


@pytest.mark.skipif(not LATEX, reason="latexmk is not installed")
def test_a_pdf_is_made_again_only_where_something_changed(copy_of_finished: Copy) -> None:
    project = copy_of_finished()
    report = ("report", "small.toml", "--paper", "paper")
    pdf = project.folder / "paper/small.pdf"
    project.run(*report)
    whole = pdf.read_bytes()
    os.utime(pdf, (1, 1))
    project.run(*report)
    assert pdf.stat().st_mtime == 1
    pdf.write_bytes(whole[:-1])
    project.run(*report)
    assert pdf.read_bytes() == whole
    os.utime(pdf, (1, 1))
    template(project, MINIMAL.replace("}\n", "}\n\\usepackage{own}\n", 1) % r"\own")
    style = project.folder / "paper/own.sty"
    style.write_text(r"\newcommand{\own}{of the user}")
    project.run(*report)
    style.write_text(r"\newcommand{\own}{changed by the user}")
    project.run(*report)
    assert "changed" in PdfReader(pdf).pages[0].extract_text()
    (project.runs / "cache/pdf.json").write_text("{")
    project.run(*report)


@pytest.mark.skipif(not LATEX, reason="latexmk is not installed")
@pytest.mark.parametrize(
    ("preamble", "runs"),
    [("paper.tex", "paper.tex"), ("paper/article.tex", "paper/runs.tex")],
)
def test_the_runs_of_a_long_name_stay_within_the_margins(
    preamble: str, runs: str, copy_of_finished: Copy
) -> None:
    project = copy_of_finished()
    name = "natural_language_colours_of_houses_and_gardens"
    for line in ("[tasks.colour]", 'tasks = ["colour"]'):
        project.change(line, line.replace("colour", name))
    head, _ = (ROOT / "specs" / preamble).read_text().split("\\begin{document}")
    body = (ROOT / "specs" / runs).read_text().split("\\section{Runs}")[1]
    end = "" if "\\end{document}" in body else "\\end{document}"
    template(project, f"{head}\\begin{{document}}\\sloppy{body}{end}")
    project.run("report", "small.toml", "--paper", "paper")
    made = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "small.tex"],
        cwd=project.folder / "paper",
        capture_output=True,
        text=True,
    )
    assert re.findall(r"Overfull .hbox.*|^!.*", made.stdout) == []


HOSTILE = "[a_b%&#$ {x}^~\\end é ß ł Ω <i>"


@pytest.mark.skipif(not LATEX, reason="latexmk is not installed")
def test_names_that_latex_would_read_come_out_as_they_are(copy_of_finished: Copy) -> None:
    project = copy_of_finished()
    quoted = json.dumps(HOSTILE, ensure_ascii=False)
    project.write(
        project.spec.read_text()
        .replace("[tasks.colour]", f"[tasks.{quoted}]")
        .replace('tasks = ["colour"]', f"tasks = [{quoted}]")
        .replace('name = "small"', f"name = {quoted}")
    )
    project.run("report", "small.toml", "--paper", "paper")
    (pdf,) = (path for path in (project.folder / "paper").glob("*.pdf"))
    pages = PdfReader(pdf).pages
    text = " ".join(" ".join(page.extract_text() for page in pages).split())
    assert HOSTILE in unicodedata.normalize("NFC", text)  # pypdf reads the ohm sign
    with (project.folder / "paper/tables/main.csv").open() as file:
        assert {row["column"] for row in csv.DictReader(file)} == {HOSTILE}
    assert why(project, f"main:bridge/{HOSTILE}")["jobs"]


def test_names_that_would_share_a_macro_are_refused_before_anything_runs(project: Project) -> None:
    project.write(
        project.spec.read_text()
        + '\n[[table]]\nname = "ma-in"\nexperiments = ["main"]\n'
        + '\n[[table]]\nname = "ma_in"\nexperiments = ["main"]\n'
    )
    done = project.run("plan", "small.toml", status=2)
    assert "MaInBridgeColour would stand for ma-in:bridge/colour and for ma_in" in done.stderr


def test_bold_and_tests_follow_the_corrected_comparison(copy_of_finished: Copy) -> None:
    project = copy_of_finished()
    project.change(
        'name = "main"\nexperiments = ["direct',
        'name = "main"\ngroups = true\ncompare = { to = "no_message" }\nexperiments = ["direct',
    )
    project.run("report", "small.toml", "--paper", "paper")
    with (project.folder / "paper/tables/main.tests.csv").open() as file:
        tests = {row["row"]: row for row in csv.DictReader(file)}
    assert tests["bridge"]["test"] == "none: too few seeds for a test: 2 of at least 3"
    assert tests["bridge"]["p"] == ""
    assert tests["truncated"]["test"] == "McNemar, mid-p"
    table = (project.folder / "paper/tables/main.tex").read_text()
    for row, tested in tests.items():
        line = next(
            x
            for x in table.splitlines()
            if x.startswith(rf"\quad {row.replace('_', chr(92) + '_')} &")
        )
        corrected = tested["p (Holm)"]
        better = bool(corrected) and float(corrected.lstrip("<")) < 0.05
        assert (r"\textbf" in line) == (better and tested["difference"].startswith("+")), row
    assert "Not tested: 1 (too few seeds for a test: 2 of at least 3)" in table
    assert r"\textit{probe}" in table


def test_every_kind_of_figure_is_drawn_or_says_that_nothing_ran(copy_of_finished: Copy) -> None:
    project = copy_of_finished()
    figures = "".join(
        f'\n[[figure]]\nname = "{kind}"\nkind = "{kind}"\n'
        'experiments = ["direct", "relay", "main"]\n'
        for kind in ("arms", "bytes")
    )
    project.write(
        project.spec.read_text()
        + figures
        + '\n[[experiment]]\nname = "late"\narms = ["truncated"]\nlatency = { repeats = 2 }\n'
        + '\n[[figure]]\nname = "late"\nkind = "latency"\nexperiments = ["late"]\n'
    )
    done = project.run("report", "small.toml", "--paper", "paper")
    assert "gap: figure late, truncated colour" in done.stdout
    found = {
        path.stem: PdfReader(path).pages[0].extract_text()
        for path in (project.folder / "paper/figures").glob("*.pdf")
    }
    assert "receiver_direct" in found["arms"]
    assert "bytes of a message" in found["bytes"]
    assert found["late"].strip() == "not run: 1 runs are missing"
    project.run("submit", "small.toml", "--yes")
    project.run("report", "small.toml", "--paper", "paper", "--strict")
    late = PdfReader(project.folder / "paper/figures/late.pdf").pages[0].extract_text()
    assert "prefill" in late


def test_the_plan_shows_what_it_can_detect(project: Project) -> None:
    project.change("seeds = [1, 2]", "seeds = [1, 2, 3]")
    rows = json.loads(project.run("plan", "small.toml", "--json").stdout)["experiments"]
    few = next(row["detects_points"] for row in rows if row["experiment"] == "main")
    assert {row["experiment"]: row["seeds"] for row in rows if row["detects_points"] is None} == {
        "probe": 1,
        "direct": 1,
        "relay": 1,
    }
    project.write(project.spec.read_text() + "\n[statistics]\nseed_sd = 0.01\n")
    rows = json.loads(project.run("plan", "small.toml", "--json").stdout)["experiments"]
    assert next(row["detects_points"] for row in rows if row["experiment"] == "main") < few
