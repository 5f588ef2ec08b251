"""Controls of a spec: the cells and jobs that they make, what is refused, and a run with them."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from conftest import Project
from pyarrow import parquet
from test_expand import expansion, ids

from lwspec.engine.arm import no_needs
from lwspec.engine.fields import Positive
from lwspec.engine.job import Job
from lwspec.engine.plan.expand import Cell, Expansion, expand
from lwspec.engine.plan.fingerprint import Fingerprints
from lwspec.engine.plan.locate import locate
from lwspec.engine.spec.controls import BLIND_PROMPT, CONTROLS, RANDOM_WEIGHTS
from lwspec.engine.spec.load import load
from lwspec.errors import SpecError
from lwspec.kernels.arms import declarations

MESSAGE = [name for name, control in CONTROLS.items() if control.message]
MODEL = [name for name, control in CONTROLS.items() if not control.message]
ARMS = 'arms = ["bridge"]'


def ask(project: Project, *controls: str, arms: str = ARMS) -> None:
    """Let an experiment of these arms list controls."""
    project.change(arms, f"{arms}\ncontrols = {json.dumps(controls)}")


def cell(found: Expansion, control: str | None, arm: str = "bridge") -> Cell:
    named = (each for each in found.cells if each.arm == arm and each.seed == 1)
    return next(each for each in named if each.point.get("control") == control)


def fit(found: Expansion, control: str | None, arm: str = "bridge") -> Job:
    return found.jobs[str(cell(found, control, arm).fit)]


def states(found: Expansion, control: str | None) -> Job:
    return found.jobs[fit(found, control).inputs["states"]]


def test_each_control_is_a_cell_beside_the_arms_own_whose_jobs_stay(project: Project) -> None:
    before = expansion(project)
    ask(project, *CONTROLS)
    after = expansion(project)
    assert set(before.jobs) <= set(after.jobs)
    points = [each.point for each in after.cells if each.arm == "bridge" and each.seed == 1]
    assert points == [{}, *({"control": name} for name in CONTROLS)]
    assert len({each.evaluate for each in after.cells if each.arm == "bridge"}) == 2 * 14
    labels = [job.label + job.kind for job in after.jobs.values()]
    assert len(set(labels)) == len(labels)
    assert "bridge colour control=zero s1evaluate" in labels


def test_controls_of_the_message_share_the_fit(project: Project) -> None:
    ask(project, *MESSAGE)
    found = expansion(project)
    assert len(ids(found, "fit", "bridge")) == 2
    plain = found.jobs[cell(found, None).evaluate]
    for name in MESSAGE:
        measured = found.jobs[cell(found, name).evaluate]
        assert measured.settings == {**plain.settings, "control": name}
        assert measured.inputs == plain.inputs


def test_controls_of_models_and_rows_change_one_thing_each(project: Project) -> None:
    ask(project, *MODEL)
    found = expansion(project)
    assert len(ids(found, "fit", "bridge")) == 2 * (1 + len(MODEL))
    plain = states(found, None)
    random = states(found, "random_sender")
    weights = {**plain.settings["model"], "random_weights": RANDOM_WEIGHTS}
    assert random.settings == {**plain.settings, "model": weights}
    assert states(found, "layer_0").settings == {**plain.settings, "layer": 0}
    assert states(found, "task_blind").settings == {**plain.settings, "prompt": BLIND_PROMPT}
    own = states(found, "identical")
    assert own.settings["model"] == fit(found, None).settings["models"]["receiver"]
    assert own.places["sender"].endswith("mistral")
    assert (own.names["sender"], fit(found, "identical").names["sender"]) == ("mistral", "mistral")
    permuted = fit(found, "permuted_labels")
    assert permuted.settings == {**fit(found, None).settings, "permuted_labels": True}
    assert permuted.inputs == fit(found, None).inputs


def test_a_sender_that_the_arms_own_jobs_run_is_changed_there(project: Project) -> None:
    """Its weights and its prompt are then settings of the fit itself."""
    arms = declarations()
    live = {"models": ("sender", "receiver"), "needs": no_needs, "version": 2}
    reads = (*arms["bridge"].reads, "sender_prompt", "max_prompt_tokens")
    arms["bridge"] = replace(arms["bridge"], **live, reads=reads)
    ask(project, "random_sender", "task_blind", "identical")
    loaded = load(project.spec, arms)
    located = locate(loaded, Fingerprints(project.folder / "fingerprints.json"))
    found = expand(loaded, arms, located)
    plain = fit(found, None).settings
    sender = {**plain["models"]["sender"], "random_weights": RANDOM_WEIGHTS}
    receiver = plain["models"]["receiver"]
    changed = {
        "random_sender": {"models": {"sender": sender, "receiver": receiver}},
        "identical": {"models": {"sender": receiver, "receiver": receiver}},
        "task_blind": {"task": {**plain["task"], "sender_prompt": BLIND_PROMPT}},
    }
    for name, settings in changed.items():
        assert fit(found, name).settings == {**plain, **settings}
        assert found.jobs[cell(found, name).evaluate].settings.items() >= settings.items()


def test_only_the_fits_of_one_control_run_side_by_side(project: Project) -> None:
    ask(project, *MODEL)
    found = expansion(project)
    alike = {found.jobs[job].alike for job in ids(found, "fit", "bridge")}
    assert len(alike) == 1 + len(MODEL)


def test_bounds_have_no_controls(project: Project) -> None:
    arms = 'arms = ["sender_direct", "receiver_direct", "truncated", "no_message"]'
    ask(project, "zero", arms=arms)
    found = expansion(project)
    controlled = {each.arm for each in found.cells if "control" in each.point}
    assert controlled == {"truncated"}


def test_a_sweep_has_each_point_under_each_control(project: Project) -> None:
    project.keep("main")
    sweep = 'sweep = { "bridge.latents" = [2, 4] }'
    project.change("bridge = { layer = 1, latents = 4,", f"{sweep}\nbridge = {{ layer = 1,")
    ask(project, "zero", "layer_0")
    points = [each.point for each in expansion(project).cells if each.arm == "bridge"]
    assert len(points) == 2 * 2 * 3
    assert {"bridge.latents": 4, "control": "layer_0"} in points


@pytest.mark.parametrize(
    ("arm", "control", "what"),
    [
        ("text_relay", "mean", "its message holds no vectors"),
        ("text_relay", "rotation", "its message holds no vectors"),
        ("text_relay", "permuted_labels", "it is not trained"),
        ("text_relay", "task_blind", "does not read the task's sender_prompt"),
        ("text_relay", "layer_0", "no setting `layer`"),
        ("linear_probe", "zero", "no receiver reads its message"),
        ("truncated", "random_sender", "it has no sender"),
        ("truncated", "identical", "it has no sender"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_stands(
    project: Project, arm: str, control: str, what: str
) -> None:
    arms = {"truncated": '"sender_direct", "receiver_direct", "truncated", "no_message"'}
    ask(project, control, arms=f"arms = [{arms.get(arm, json.dumps(arm))}]")
    lines = project.spec.read_text().splitlines()
    place = lines.index(f'controls = ["{control}"]') + 1
    said = f"(?s){control} makes no sense for {arm} on colour: .*{what}"
    with pytest.raises(SpecError, match=said) as refused:
        expansion(project)
    assert str(refused.value.where).endswith(f"small.toml:{place}:13")
    assert "experiment of its own" in str(refused.value.remedy)


def test_an_arm_whose_layers_begin_above_the_embeddings_has_no_layer_0(project: Project) -> None:
    class Blocks(declarations()["bridge"].settings):  # type: ignore[misc]
        layer: Positive

    arms = declarations()
    arms["bridge"] = replace(arms["bridge"], settings=Blocks)
    ask(project, "layer_0")
    loaded = load(project.spec, arms)
    located = locate(loaded, Fingerprints(project.folder / "fingerprints.json"))
    with pytest.raises(SpecError, match="no setting `layer` that could be 0"):
        expand(loaded, arms, located)


def sized(growing: bool, settings: Any, shapes: Any, tokens: int) -> tuple[int, int]:
    return (tokens if growing else 1, shapes["sender"].width)


@pytest.mark.parametrize(("control", "refused"), [("mean", True), ("rotation", False)])
def test_messages_as_long_as_the_prompt_have_no_mean(
    project: Project, control: str, refused: bool
) -> None:
    """As keys and values do: known from what an arm declares of its vectors."""
    ask(project, control)
    for growing in (False, True):
        arms = declarations()
        arms["bridge"] = replace(arms["bridge"], tokens=None, vectors=partial(sized, growing))
        loaded = load(project.spec, arms)
        located = locate(loaded, Fingerprints(project.folder / "fingerprints.json"))
        if refused and growing:
            with pytest.raises(SpecError, match="not known to be all of one size"):
                expand(loaded, arms, located)
        else:
            assert cell(expand(loaded, arms, located), control)


def test_a_misspelt_control_names_the_nearest(project: Project) -> None:
    ask(project, "zero", "same_lable")
    done = project.run("plan", "small.toml", status=2)
    assert "there is no control 'same_lable'" in done.stderr
    assert "did you mean: same_label" in done.stderr


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ('latency = {}\ncontrols = ["zero"]', "a timing has no controls"),
        ('controls = ["zero", "zero"]', "'zero' is given twice"),
        ('sweep = { control = ["zero", "mean"] }', "controls are no sweep"),
        ('receiver = "llama"\ncontrols = ["identical"]', "identical changes nothing for bridge"),
        ('sweep = { "bridge.layer" = [0, 1] }\ncontrols = ["layer_0"]', "layer_0 changes nothing"),
        ('train = { distillation = 1.0 }\ncontrols = ["permuted_labels"]', "distillation teaches"),
    ],
)
def test_controls_that_cannot_be(project: Project, more: str, what: str) -> None:
    if "bridge.layer" in more:
        project.keep("main")
        project.change("bridge = { layer = 1, ", "bridge = { ")
    project.change(ARMS, f"{ARMS}\n{more}")
    with pytest.raises(SpecError) as refused:
        expansion(project)
    assert what in str(refused.value)
    assert "small.toml:" in str(refused.value)


def test_an_experiment_of_bounds_alone_has_nothing_to_control(project: Project) -> None:
    bounds = 'arms = ["receiver_direct", "no_message"]'
    project.change('arms = ["sender_direct", "receiver_direct", "truncated", "no_message"]', bounds)
    ask(project, "zero", arms=bounds)
    with pytest.raises(SpecError, match="no arm of 'direct' hands anything over"):
        expansion(project)


def test_controls_that_ask_for_labels_are_refused_for_free_text(project: Project) -> None:
    project.keep("main")
    project.change('kind = "classification"', 'kind = "generation"')
    project.change('label = "label"\nlabels = ["red", "blue", "green stone"]', 'target = "{text}"')
    ask(project, "other_item", "other_label")
    project.change('name = "main"\nexperiments', 'name = "main"\nmetric = "rougeL"\nexperiments')
    with pytest.raises(SpecError, match="the task has no labels: other_item"):
        expansion(project)


def test_a_figure_of_a_sweep_has_no_controls(project: Project) -> None:
    project.keep("main")
    sweep = 'sweep = { "bridge.latents" = [2, 4] }'
    project.change("bridge = { layer = 1, latents = 4,", f"{sweep}\nbridge = {{ layer = 1,")
    project.change('kind = "learning_curves"', 'kind = "sweep"\nmetric = "accuracy"')
    expansion(project)
    ask(project, "zero")
    with pytest.raises(SpecError, match="controls"):
        expansion(project)


def test_controls_from_spec_to_table(project: Project) -> None:
    """Rows named by control, each from its own predictions; curves for fits, each once."""
    project.keep("main", "direct")
    project.change("seeds = [1, 2]", "seeds = [1]")
    project.change("epochs = 2", "epochs = 1")
    ask(project, *CONTROLS)
    compare = 'compare = { to = "bridge" }'
    project.change('name = "main"\nexperiments', f'name = "main"\n{compare}\nexperiments')
    project.run("run", "small.toml", "--strict", timeout=500)
    text = (project.folder / "paper/results.md").read_text()
    for name, control in CONTROLS.items():
        assert f"bridge (control={name})" in text
        assert f"control={name}: {control.says}." in text
    found = expansion(project)

    def scores(job: str) -> list[list[float]]:
        (path,) = project.runs.glob(f"{job}/attempt-1/predictions/test.parquet")
        return [row["label_logprobs"] for row in parquet.read_table(path).to_pylist()]

    said = {name: scores(cell(found, name).evaluate) for name in (None, *CONTROLS)}
    for name in CONTROLS:
        assert said[name] != said[None], name
    for name in ("zero", "mean", "no_transfer"):  # one message for all
        assert all(row == pytest.approx(said[name][0], abs=1e-4) for row in said[name])
    (alone,) = (each.evaluate for each in found.cells if each.arm == "no_message")
    assert said["no_transfer"][0] == pytest.approx(scores(alone)[0], abs=1e-4)
    (path,) = project.runs.glob(f"{cell(found, 'zero').evaluate}/attempt-1/evaluation.json")
    assert json.loads(path.read_text())["control"] == "zero"
