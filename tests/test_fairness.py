"""Tables that compare arms on unequal terms are refused, or say what differs and why."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from conftest import ROOT, Project

from lwspec.engine.spec.fairness import check_fairness
from lwspec.engine.spec.load import load
from lwspec.errors import SpecError
from lwspec.kernels.arms import declarations
from lwspec.report.paper.latex import escape

BYTES = """\
[[experiment]]
name = "bytes"
arms = ["byte_bridge"]
byte_bridge = { width = 16, depth = 1, heads = 2 }
SETTINGS

[[table]]
name = "both"
experiments = ["main", "bytes"]

[[table]]"""

EPOCHS = "train = { epochs = 3 }"
BROKEN = {
    "rows": ("train = { samples = 40 }", "training rows: 48 (bridge), 40 (byte_bridge)"),
    "most rows": (
        "train = { samples = { max = 48 } }",
        "training rows: 48 (bridge), at most 48 (byte_bridge)",
    ),
    "epochs": (EPOCHS, "epochs: 2 (bridge), 3 (byte_bridge)"),
    "batches": ("train = { batch_size = 4 }", "batch size: 8 (bridge), 4 (byte_bridge)"),
    "tokens": (
        "train = { supervised_tokens = 1 }",
        "supervised tokens of an answer: all (bridge), 1 (byte_bridge)",
    ),
    "test rows": ("evaluate = { rows = 20 }", "test rows: all (bridge), 20 (byte_bridge)"),
    "trials": (
        'sweep = { "byte_bridge.latents" = [2, 4] }',
        "settings tried: 1 (bridge), 2 (byte_bridge)",
    ),
    "values": (
        'sweep = { "train.epochs" = [2, 3] }',
        "epochs: 2 (bridge), 2 and 3 (byte_bridge)",
    ),
}


def write(project: Project, settings: str) -> None:
    project.change("[[table]]", BYTES.replace("SETTINGS", settings))


def unequal(project: Project) -> dict[str, tuple[str, ...]]:
    return dict(load(project.spec, declarations()).unequal)


@pytest.mark.parametrize(("settings", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_refused_with_what_differs(
    project: Project, settings: str, said: str
) -> None:
    write(project, settings)
    done = project.run("plan", "small.toml", status=2)
    text = project.spec.read_text()
    line = text[: text.index('experiments = ["main", "bytes"]')].count("\n") + 1
    where = f"lwspec: small.toml:{line}:1: "
    assert done.stderr.startswith(f"{where}table 'both' compares arms on unequal terms")
    assert said in done.stderr
    assert 'unequal = "..."' in done.stderr


@pytest.mark.parametrize(("settings", "said"), BROKEN.values(), ids=BROKEN)
def test_a_reason_lets_it_pass_and_says_what_differs(
    project: Project, settings: str, said: str
) -> None:
    write(project, settings)
    project.change('name = "both"', 'name = "both"\nunequal = "so it is"')
    assert said in unequal(project)["both"]


def test_equal_arms_need_no_reason_and_may_give_none(project: Project) -> None:
    write(project, "")
    assert unequal(project) == {}
    project.change('name = "both"', 'name = "both"\nunequal = "so it was"')
    with pytest.raises(SpecError, match="compared on equal terms") as refused:
        unequal(project)
    line = project.spec.read_text().split('unequal = "so it was"')[0].count("\n") + 1
    assert refused.value.where == f"{project.spec}:{line}:1"


def test_what_a_table_leaves_out_is_not_compared(project: Project) -> None:
    write(project, EPOCHS)
    project.change('["main", "bytes"]', '["main", "bytes", "direct"]\narms = ["bridge"]')
    assert unequal(project) == {}


def test_one_arm_may_be_trained_in_several_ways(project: Project) -> None:
    """A sweep of one arm compares no arms; beside another arm its values count."""
    project.change('arms = ["bridge"]', 'arms = ["bridge"]\nsweep = { "train.epochs" = [1, 2] }')
    project.change('["direct", "relay", "probe", "main"]', '["main"]')
    assert unequal(project) == {}


def test_equal_sweeps_are_equal(project: Project) -> None:
    write(project, 'sweep = { "train.epochs" = [1, 2] }')
    project.change(
        'name = "main"\narms', 'name = "main"\nsweep = { "train.epochs" = [1, 2] }\narms'
    )
    project.change('["direct", "relay", "probe", "main"]', '["main"]')
    assert unequal(project) == {}


def test_timings_need_no_equal_training(project: Project) -> None:
    write(project, f"{EPOCHS}\nlatency = {{}}")
    project.change('["main", "bytes"]', '["timed", "bytes"]\nmetric = "total_ms"')
    timed = '[[experiment]]\nname = "timed"\narms = ["bridge"]\nlatency = {}\n'
    project.change(
        '[[experiment]]\nname = "bytes"',
        f'{timed}bridge = {{ layer = 1 }}\n\n[[experiment]]\nname = "bytes"',
    )
    assert unequal(project) == {}


def test_arms_that_show_the_context_stand_apart_from_those_that_hide_it(project: Project) -> None:
    write(project, "")
    arms = declarations()
    loaded = load(project.spec, arms)
    shared = {**arms, "byte_bridge": replace(arms["byte_bridge"], regime="shared")}
    with pytest.raises(SpecError, match=re.escape("private (bridge), shared (byte_bridge)")):
        check_fairness(loaded, shared)
    bound = {**arms, "byte_bridge": replace(arms["byte_bridge"], regime="reference")}
    assert check_fairness(loaded, bound) == {}


def test_a_rule_that_is_broken_on_one_task_names_it(project: Project) -> None:
    write(project, EPOCHS)
    text = project.spec.read_text()
    task = text[text.index("[tasks.colour]") : text.index("[defaults]")]
    project.change("[defaults]", f"{task.replace('colour', 'hue')}[defaults]")
    project.change('name = "main"\narms', 'name = "main"\ntasks = ["colour", "hue"]\narms')
    project.change('name = "both"', 'name = "both"\nunequal = "so it is"')
    assert unequal(project) == {"both": ("epochs: 2 (bridge), 3 (byte_bridge), on colour",)}


def test_arms_of_a_table_learn_from_the_same_tasks(project: Project) -> None:
    write(project, "")
    text = project.spec.read_text()
    task = text[text.index("[tasks.colour]") : text.index("[defaults]")]
    project.change("[defaults]", f"{task.replace('colour', 'hue')}[defaults]")
    project.change('name = "bytes"', 'name = "bytes"\ntrain_on = ["colour", "hue"]')
    project.change('name = "both"', 'name = "both"\nunequal = "so it is"')
    said = "trained on: colour (bridge), colour + hue (byte_bridge)"
    assert unequal(project) == {"both": (said,)}


def test_controls_are_no_trials(project: Project) -> None:
    write(project, "")
    project.change('name = "main"\narms', 'name = "main"\ncontrols = ["zero"]\narms')
    assert unequal(project) == {}


@pytest.mark.parametrize("name", ["quickstart", "tiny", "final", "tiny_peers", "peers"])
def test_the_specs_say_why_where_they_must(name: str) -> None:
    loaded = load(ROOT / f"specs/{name}.toml", declarations())
    assert set(loaded.unequal) == {table.name for table in loaded.spec.table if table.unequal}


def test_the_reason_stands_below_the_table_in_every_form(finished: Project) -> None:
    before = finished.spec.read_text()
    try:
        write(finished, EPOCHS)
        finished.change('name = "both"', 'name = "both"\nunequal = "bytes are 50% shorter"')
        finished.run("report", "small.toml", "--paper", "unequal", "--html", "unequal.html")
    finally:
        finished.write(before)
    note = "epochs: 2 (bridge), 3 (byte_bridge). Why: bytes are 50% shorter."
    assert escape(note) in (finished.folder / "unequal/tables/both.tex").read_text()
    assert note in (finished.folder / "unequal/results.md").read_text()
    assert note in (finished.folder / "unequal.html").read_text()
