"""Incidents of made-up numbers: nothing is shown but what a finished run left behind.

docs/reliability.md lists all forty; each test is named after its number there.
"""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import Project
from incidents import (
    Copy,
    accuracy,
    add,
    content,
    edit,
    entries,
    jobs,
    lwspec,
    plan,
    predictions,
    record,
    tables_alone,
)
from papers import MINIMAL, template
from safetensors.torch import load_file


@pytest.fixture(autouse=True)
def no_latex(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave git alone on the path: templates are filled and not compiled."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", str(folder))


def test_incident_01_without_a_run_there_is_no_number(
    project: Project, copy_of_finished: Copy
) -> None:
    refused = lwspec(project, "report", "small.toml", "--paper", "paper", status=1)
    assert "no run of this spec has finished" in refused.err
    assert not (project.folder / "paper").exists()
    some = tables_alone(copy_of_finished())
    shutil.rmtree(jobs(some, "evaluate")["text_relay colour"])
    lines = entries(some)
    assert (lines["text_relay"]["value"], lines["text_relay"]["status"]) == ("", "not run")
    measured = jobs(some, "evaluate")
    for arm in ("sender_direct", "receiver_direct", "truncated", "no_message", "linear_probe"):
        counted = accuracy(measured[f"{arm} colour"])
        assert float(lines[arm]["value"]) == pytest.approx(counted), arm


def test_incident_02_a_number_typed_into_the_paper_is_named(copy_of_finished: Copy) -> None:
    project = copy_of_finished()
    body = "\\begin{tabular}{lr}\n-- Latent Encoding & 82.3 \\\\ % 84.5\n\\end{tabular}\n"
    template(project, MINIMAL % f"{body}\\VAR{{MAIN_BRIDGE_COLOUR}} with $t=12.45$, Llama-3.1-8B")
    told = plan(project)["paper"]["by_hand"]
    assert [line.partition("paper.tex:")[2] for line in told] == [
        "4: 82.3 is typed",
        "6: 12.45 is typed",
    ]
    assert "paper.tex:4: 82.3 is typed" in lwspec(project, "plan", "small.toml").out
    assert (
        "by hand: no record stands behind 2 numbers"
        in lwspec(project, "report", "small.toml", "--paper", "p").out
    )
    template(project, MINIMAL % r"without the encoder \VAR{ABLATION_LATENT_ENCODING}")
    refused = lwspec(project, "report", "small.toml", "--paper", "paper", status=1)
    assert r"nothing fills \VAR{ABLATION_LATENT_ENCODING}" in refused.err
    assert not (project.folder / "paper").exists()


def test_incident_03_a_figure_shows_the_records(copy_of_finished: Copy) -> None:
    project = copy_of_finished()
    add(project, '[[figure]]\nname = "arms"\nkind = "arms"\nexperiments = ["direct"]')
    shown = next(each for each in content(project).figures if each.figure.name == "arms")
    (panel,) = shown.panels
    points = {panel.rows[int(point.x)]: point for point in panel.series[0].points}
    measured = jobs(project, "evaluate")
    assert set(points) == {"sender_direct", "receiver_direct", "truncated", "no_message"}
    for arm, point in points.items():
        assert point.mean == pytest.approx(accuracy(measured[f"{arm} colour"]))
        assert point.jobs == (measured[f"{arm} colour"].name,)
    (project.folder / "latency.pdf").write_bytes(b"%PDF-1.4")
    template(project, MINIMAL % r"\includegraphics{latency}\includegraphics{figures/arms}")
    (told,) = plan(project)["paper"]["by_hand"]
    assert "latency is a picture of its own" in told


def test_incident_04_a_result_without_evidence_is_refused(copy_of_finished: Copy) -> None:
    project = tables_alone(copy_of_finished())
    measured = jobs(project, "evaluate")["text_relay colour"]
    kept = record(measured / "attempt-1/evaluation.json")
    for key in ("n", "split", "models", "data", "command", "git_sha", "timestamp", "hardware"):
        assert kept[key], key
    loose = project.runs / "final_experiments"
    loose.mkdir()
    (loose / "llmlingua.json").write_text('{"accuracy": 0.68}')
    lines = entries(project)
    assert "0.68" not in json.dumps(lines)
    assert lines["text_relay"]["n"] == "30"
    for place in ("taken/result.json", "attempt-1/outputs/result.json"):
        edit(measured / place, metrics={"accuracy": 0.68}, files={}, facts={})
    lwspec(project, "status", "small.toml", "--rescan")
    refused = lwspec(project, "report", "small.toml", "--paper", "paper", status=1)
    assert "the record of text_relay colour names no predictions/test.parquet" in refused.err


def test_incident_07_parameters_are_counted_from_the_weights(copy_of_finished: Copy) -> None:
    project = tables_alone(copy_of_finished())
    add(project, '[[table]]\nname = "size"\nexperiments = ["main", "probe"]\nmetric = "parameters"')
    lines = entries(project, "size")
    weights = jobs(project, "fit")["bridge colour s1"] / "attempt-1/weights/epoch-002.safetensors"
    counted = sum(tensor.numel() for tensor in load_file(weights).values())
    assert float(lines["bridge"]["value"]) == counted > 1000
    assert float(lines["linear_probe"]["value"]) == 3 * (32 + 1)  # labels x (width and a bias)


def test_incident_35_one_measurement_has_one_number_wherever_it_stands(
    copy_of_finished: Copy,
) -> None:
    project = tables_alone(copy_of_finished())
    add(project, '[[table]]\nname = "again"\nexperiments = ["main"]\nrows = "tasks"')
    first, again = entries(project)["bridge"], entries(project, "again")["colour"]
    keys = ("value", "low", "high", "finished", "n")
    assert [first[key] for key in keys] == [again[key] for key in keys]
    chains = [
        json.loads(lwspec(project, "why", ref, "--spec", "small.toml", "--json").out)["jobs"]
        for ref in ("main:bridge/colour", "again:colour/bridge")
    ]
    assert [job["job"] for job in chains[0]] == [job["job"] for job in chains[1]]


def test_incident_36_a_run_that_is_not_there_cannot_be_cited_nor_a_number_edited(
    copy_of_finished: Copy,
) -> None:
    project = tables_alone(copy_of_finished())
    asked = ("why", "MAIN_BRIDGE_13B_COLOUR", "--spec", "small.toml")
    assert "MAIN_BRIDGE_COLOUR" in lwspec(project, *asked, status=2).err
    lwspec(project, "report", "small.toml", "--paper", "paper")
    for name in ("numbers.tex", "tables/main.tex", "tables/main.csv"):
        path = project.folder / "paper" / name
        whole = path.read_text()
        path.write_text(whole.replace("3", "9"))
        lwspec(project, "report", "small.toml", "--paper", "paper")
        assert path.read_text() == whole
    path = jobs(project, "evaluate")["truncated colour"] / "attempt-1/evaluation.json"
    edit(path, metrics={**record(path)["metrics"], "accuracy": 0.947})
    refused = lwspec(project, "report", "small.toml", "--paper", "paper", status=1)
    assert "the evidence of truncated colour has changed since it was recorded" in refused.err


def test_incident_39_a_table_prints_the_quantity_that_was_recorded(copy_of_finished: Copy) -> None:
    project = tables_alone(copy_of_finished())
    add(
        project,
        '[[table]]\nname = "bytes"\nexperiments = ["main", "relay"]\nmetric = "message_bytes"\n'
        '[[claim]]\nname = "ratio"\nsays = "{gap}"\notherwise = "{gap}"\nrelation = "times"\n'
        'factor = 1.0\nleft = "main:receiver_direct/colour"\nright = "main:truncated/colour"',
    )
    measured = jobs(project, "evaluate")
    lines = entries(project, "bytes")
    for row, labels in (
        ("bridge", ("bridge colour s1", "bridge colour s2")),
        ("text_relay", ("text_relay colour",)),
    ):
        sizes = [line["message_bytes"] for label in labels for line in predictions(measured[label])]
        assert float(lines[row]["value"]) == pytest.approx(sum(sizes) / len(sizes))
    ((held,),) = (judged.held for judged in content(project).claims)
    left, right = (accuracy(measured[f"{arm} colour"]) for arm in ("receiver_direct", "truncated"))
    assert held.gap == pytest.approx(left / right)
