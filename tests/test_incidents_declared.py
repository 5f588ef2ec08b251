"""Incidents of what was declared against what was run: seeds, settings, sweeps, timings.

docs/reliability.md lists all forty; each test is named after its number there.
"""

from __future__ import annotations

import shutil

import pytest
from conftest import Project
from incidents import (
    Copy,
    accuracy,
    add,
    entries,
    expansion,
    jobs,
    lwspec,
    plan,
    record,
    tables_alone,
)
from papers import MINIMAL, template

BRIDGE = "bridge = { layer = 1, latents = 4, width = 16, depth = 1, heads = 2 }"


def test_incident_05_seeds_that_did_not_run_are_counted_as_missing(copy_of_finished: Copy) -> None:
    project = tables_alone(copy_of_finished())
    project.change("seeds = [1, 2]", "seeds = [1, 2, 3, 4, 5]")
    line = entries(project)["bridge"]
    assert (line["finished"], line["planned"]) == ("2", "5")
    assert "2 of 5" in (project.folder / "paper/tables/main.tex").read_text()
    macros = (project.folder / "paper/numbers.tex").read_text().splitlines()
    (seeds,) = (macro for macro in macros if "MainBridgeColourSeeds" in macro)
    assert "2 of 5" in seeds
    strict = lwspec(project, "report", "small.toml", "--paper", "paper", "--strict", status=1)
    assert "missing: bridge colour s3, bridge colour s4, bridge colour s5" in strict.out


def test_incident_06_numbers_stand_only_for_the_settings_that_they_were_run_with(
    copy_of_finished: Copy,
) -> None:
    project = tables_alone(copy_of_finished())
    fit = jobs(project, "fit")["bridge colour s1"]
    ran = record(fit / "job.json")["settings"]
    assert (ran["train"]["batch_size"], ran["train"]["learning_rate"]) == (8, 1e-3)
    assert (ran["arm_settings"]["layer"], ran["arm_settings"]["latents"]) == (1, 4)
    facts = record(fit / "taken/epoch-002.json")["facts"]
    assert (facts["samples"], facts["steps"]) == (48, 2 * 48 // 8)
    assert entries(project)["bridge"]["status"] == "measured"
    project.change("batch_size = 8", "batch_size = 4")
    assert entries(project)["bridge"]["status"] == "not run"
    project.change("batch_size = 4", "batch_size = 8")
    project.change("layer = 1, latents", "layer = 2, latents")
    assert entries(project)["bridge"]["status"] == "not run"


def test_incident_09_a_sweep_that_changes_nothing_is_refused(project: Project) -> None:
    before = project.files()
    whole = project.spec.read_text()
    project.change(
        'arms = ["sender_direct", "receiver_direct", "truncated", "no_message"]',
        'arms = ["truncated", "no_message"]\nsweep = { "truncated.tokens" = [2, 4] }',
    )
    refused = lwspec(project, "plan", "small.toml", status=2)
    assert "every point would run the same" in refused.err
    assert project.files() == before
    project.write(whole)
    project.keep("main")
    project.change(BRIDGE, 'sweep = { "bridge.latents" = [2, 4, 8] }\n' + BRIDGE)
    project.change("latents = 4, ", "")
    made = expansion(project)
    fits = [job.settings for job in made.jobs.values() if job.kind == "fit"]
    assert sorted((fit["arm_settings"]["latents"], fit["seed"]) for fit in fits) == [
        (latents, seed) for latents in (2, 4, 8) for seed in (1, 2)
    ]
    assert len({cell.evaluate for cell in made.cells}) == 6
    for key in ("train", "task", "models", "samples"):  # nothing else was changed beside it
        assert all(fit[key] == fits[0][key] for fit in fits), key


def test_incident_12_what_is_timed_untrained_is_called_so(copy_of_finished: Copy) -> None:
    project = tables_alone(copy_of_finished())
    for name, more in (("timed", ""), ("untrained", ", trained = false")):
        add(
            project,
            f'[[experiment]]\nname = "{name}"\narms = ["bridge"]\nseeds = [1]\n{BRIDGE}\n'
            f"latency = {{ new_tokens = 2{more} }}",
        )
    add(
        project,
        '[[table]]\nname = "time"\nexperiments = ["timed", "untrained"]\nmetric = "total_ms"',
    )
    assert set(entries(project, "time")) == {"bridge", "bridge (untrained)"}
    assert "bridge (untrained) &" in (project.folder / "paper/tables/time.tex").read_text()
    made = expansion(project)
    timed = {
        cell.experiment: cell for cell in made.cells if made.jobs[cell.evaluate].kind == "latency"
    }
    fits = jobs(project, "fit")
    assert timed["timed"].fit == fits["bridge colour s1"].name
    assert "fit" in made.jobs[timed["timed"].evaluate].inputs
    assert timed["untrained"].fit is None


def test_incident_16_all_seeds_count_and_what_the_paper_leaves_out_is_named(
    copy_of_finished: Copy,
) -> None:
    project = copy_of_finished()
    fits, measured = jobs(project, "fit"), jobs(project, "evaluate")
    labels = ["bridge colour s1", "bridge colour s2"]
    seeds = [record(fits[label] / "job.json")["settings"]["seed"] for label in labels]
    assert seeds == [1, 2]
    template(project, MINIMAL % r"Our best: \VAR{MAIN_TEXT_RELAY_COLOUR}")
    assert plan(project)["paper"]["unused"] == ["main", "probe", "direct"]
    line = entries(tables_alone(project))["bridge"]
    both = [accuracy(measured[label]) for label in labels]
    assert float(line["value"]) == pytest.approx(sum(both) / 2)
    assert line["finished"] == "2"


def test_incident_29_what_has_no_seed_runs_once(project: Project) -> None:
    project.change("seeds = [1, 2]", "seeds = [1, 2, 3, 4, 5]")
    measured: dict[str, set[str]] = {}
    for cell in expansion(project).cells:
        measured.setdefault(cell.arm, set()).add(cell.evaluate)
    assert {arm: len(ids) for arm, ids in measured.items()} == {
        "bridge": 5, "linear_probe": 1, "text_relay": 1, "sender_direct": 1, "receiver_direct": 1,
        "truncated": 1, "no_message": 1,
    }  # fmt: skip


MISTAKES = {
    "an argument that is none": ("latency = { dtype = 1 }", "unknown key 'dtype'"),
    "a checkpoint's name": ('train = { checkpoint = "peak" }', "'last' or 'best'"),
    "a value of another type": ('latency = { trained = "yes" }', "valid boolean"),
    "a number of steps": ("latency = { repeats = 1 }", "greater than or equal to 2"),
    "an untrained solution": ("latency = { trained = false }", "solved in one step"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_incident_33_arguments_are_wrong_before_anything_is_queued(
    name: str, project: Project
) -> None:
    line, said = MISTAKES[name]
    project.change('arms = ["linear_probe"]\n', f'arms = ["linear_probe"]\n{line}\n')
    before = project.files()
    refused = lwspec(project, "submit", "small.toml", status=2)
    assert "small.toml:" in refused.err
    assert said in refused.err
    shutil.rmtree(project.runs, ignore_errors=True)
    assert project.files() == before
