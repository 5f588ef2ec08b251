"""What makes two jobs one, and what makes them two."""

from __future__ import annotations

from pathlib import Path

from conftest import Project

from lwspec.cli.session import open_session
from lwspec.engine.executors.submit import plan_record
from lwspec.engine.plan.expand import Expansion, expand
from lwspec.engine.plan.fingerprint import Fingerprints
from lwspec.engine.plan.locate import locate
from lwspec.engine.plan.plan import Plan, compare
from lwspec.engine.spec.load import load
from lwspec.kernels.arms import declarations


def expansion(project: Project) -> Expansion:
    loaded = load(project.spec, declarations())
    located = locate(loaded, Fingerprints(project.folder / "fingerprints.json"))
    return expand(loaded, declarations(), located)


def ids(found: Expansion, kind: str, step: str) -> set[str]:
    return {job.id for job in found.jobs.values() if (job.kind, job.step) == (kind, step)}


def test_arms_without_a_seed_run_once(project: Project) -> None:
    found = expansion(project)
    assert len(ids(found, "fit", "bridge")) == 2
    for arm in ("linear_probe", "receiver_direct", "text_relay"):
        assert len(ids(found, "evaluate", arm)) == 1
        assert len([cell for cell in found.cells if cell.arm == arm]) == 2


def test_bridge_and_probe_share_the_senders_states(project: Project) -> None:
    assert len(ids(expansion(project), "prepare", "states")) == 1


def test_inputs_come_before_what_needs_them(project: Project) -> None:
    seen: set[str] = set()
    for job in expansion(project).jobs.values():
        assert set(job.inputs.values()) <= seen
        seen.add(job.id)


def test_identity_ignores_names_paths_and_places(project: Project, tmp_path: Path) -> None:
    before = set(expansion(project).jobs)
    project.change("[tasks.colour]", "[tasks.hue]")
    project.change('tasks = ["colour"]', 'tasks = ["hue"]')
    (project.folder / "elsewhere").symlink_to(project.folder / "models/llama")
    project.change("models/llama", "elsewhere")
    assert set(expansion(project).jobs) == before


def test_fits_and_evaluations_are_compiled_and_timings_are_alike_for_all_arms(
    project: Project,
) -> None:
    project.change('"no_message"]', '"no_message"]\nlatency = { new_tokens = 2, repeats = 2 }')
    project.change("threads = 1", "threads = 1\ncompile = true")
    jobs = expansion(project).jobs.values()
    assert {job.kind for job in jobs if job.compiled} == {"fit", "evaluate"}
    assert {job.kind for job in jobs if not job.compiled} == {"prepare", "latency"}


def test_more_epochs_are_the_same_fit_and_another_evaluation(project: Project) -> None:
    before = expansion(project)
    project.change("epochs = 2", "epochs = 5")
    after = expansion(project)
    assert ids(before, "fit", "bridge") == ids(after, "fit", "bridge")
    assert not ids(before, "evaluate", "bridge") & ids(after, "evaluate", "bridge")
    fit = after.jobs[next(iter(ids(after, "fit", "bridge")))]
    assert fit.outputs == tuple(f"epoch-00{n}" for n in range(1, 6))


def test_a_schedule_that_depends_on_the_end_makes_epochs_part_of_identity(
    project: Project,
) -> None:
    project.change("epochs = 2", 'schedule = "cosine", epochs = 2')
    before = expansion(project)
    project.change("epochs = 2", "epochs = 3")
    assert not ids(before, "fit", "bridge") & ids(expansion(project), "fit", "bridge")


def test_only_what_reads_a_prompt_changes_with_it(project: Project) -> None:
    before = expansion(project)
    project.change('receiver_prompt = "Text:', 'receiver_prompt = "Words:')
    after = expansion(project)
    for kind, step, same in (
        ("fit", "bridge", True),
        ("evaluate", "bridge", True),
        ("evaluate", "linear_probe", True),
        ("evaluate", "sender_direct", True),
        ("evaluate", "receiver_direct", False),
        ("evaluate", "text_relay", False),
        ("prepare", "text", True),
    ):
        assert (ids(before, kind, step) == ids(after, kind, step)) is same, step


def test_each_setting_that_can_change_a_number_changes_the_fit(project: Project) -> None:
    changes = [
        ("layer = 1, latents", "layer = 2, latents"),
        ("latents = 4", "latents = 5"),
        ("width = 16", "width = 32"),
        ("learning_rate = 1e-3", "learning_rate = 2e-3"),
        ("samples = 48", "samples = 40"),
        ("batch_size = 8", "batch_size = 4"),
        ('query = "Colour:"', 'query = "Hue:"'),
        ("max_prompt_tokens = 40", "max_prompt_tokens = 30"),
        ("threads = 1", "threads = 2"),
        ("rows = 12", "rows = 13"),
        ('sender_prompt = "Text:', 'sender_prompt = "Words:'),
    ]
    text = project.spec.read_text()
    before = ids(expansion(project), "fit", "bridge")
    for old, new in changes:
        project.write(text)
        project.change(old, new)
        assert not before & ids(expansion(project), "fit", "bridge"), new


def test_a_changed_file_is_another_data_set(project: Project) -> None:
    before = expansion(project)
    data = project.folder / "data"
    rows = (data / "test.jsonl").read_text()
    train = (data / "train.jsonl").read_text()
    data.unlink()
    data.mkdir()
    (data / "train.jsonl").write_text(train)
    (data / "test.jsonl").write_text(rows.replace("red", "rot"))
    assert not ids(before, "prepare", "data") & ids(expansion(project), "prepare", "data")


def test_a_sweep_makes_a_job_for_every_point(project: Project) -> None:
    project.keep("main")
    sweep = 'sweep = { "bridge.latents" = [2, 4, 8], "train.batch_size" = [4, 8] }'
    project.change("bridge = { layer = 1, latents = 4,", f"{sweep}\nbridge = {{ layer = 1,")
    found = expansion(project)
    assert len(ids(found, "fit", "bridge")) == 3 * 2 * 2
    assert len({cell.evaluate for cell in found.cells if cell.arm == "bridge"}) == 12


def test_what_differs_is_said_in_the_specs_words(project: Project) -> None:
    def plan() -> Plan:
        return open_session(project.spec, project.folder / "results.db", project.runs).plan

    before = plan_record(plan())["jobs"]
    project.change("samples = 48", "samples = { max = 40 }")
    changed = compare(plan(), before).changed
    assert "fit bridge colour s1: samples 48 -> at most 40" in changed
    assert not any("None" in line for line in changed)


def test_more_samples_extend_the_same_states(project: Project) -> None:
    before = expansion(project)
    project.change("samples = 48, ", "")
    after = expansion(project)
    assert ids(before, "prepare", "states") == ids(after, "prepare", "states")
    assert not ids(before, "fit", "bridge") & ids(after, "fit", "bridge")


BRIDGE = "bridge = { layer = 1, latents = 4, width = 16, depth = 1, heads = 2 }"


def test_two_needs_of_one_job_are_both_met(project: Project) -> None:
    """One experiment knows how many rows it wants, another takes all of an unknown number."""
    data = project.folder / "data"
    source = data.resolve()
    data.unlink()
    data.mkdir()
    for name in ("train", "test"):
        (data / f"{name}.json").write_text((source / f"{name}.jsonl").read_text())
    project.change("train.jsonl", "train.json")
    project.change("test.jsonl", "test.json")
    project.change('name = "probe"', 'name = "more"\ntrain = { samples = { max = 60 } }')
    project.change('["linear_probe"]', '["bridge"]\nseeds = [9]')
    project.change(
        "linear_probe = { layer = 1, folds = 2, inverse_penalties = [0.1, 1.0] }", BRIDGE
    )
    project.change('"probe"', '"more"')
    project.change("samples = 48, ", "")
    project.change('"more", "main"]', '"more", "main"]\nunequal = "it is about jobs"')
    found = expansion(project)
    states = found.jobs[next(iter(ids(found, "prepare", "states")))]
    assert set(states.outputs) == {"validation", "test", "train-all", "train-0000"}
    for seed, wanted in ((1, "train-all"), (9, "train-0000")):
        (fit,) = [job for job in found.jobs.values() if job.label == f"bridge colour s{seed}"][:1]
        assert (fit.kind, fit.reads["states"]) == ("fit", ("validation", wanted))


def test_what_an_arm_does_not_use_is_not_in_its_identity(project: Project) -> None:
    before = expansion(project)
    project.change("[defaults]", '[defaults]\nevaluate = { precision = "float32" }')
    after = expansion(project)
    assert not ids(before, "evaluate", "bridge") & ids(after, "evaluate", "bridge")
    assert ids(before, "evaluate", "receiver_direct") == ids(after, "evaluate", "receiver_direct")
    project.change('precision = "float32"', "batch_size = 8")
    after = expansion(project)
    assert ids(before, "evaluate", "linear_probe") == ids(after, "evaluate", "linear_probe")
    assert ids(before, "fit", "bridge") == ids(after, "fit", "bridge")
    for arm in ("bridge", "receiver_direct"):
        assert not ids(before, "evaluate", arm) & ids(after, "evaluate", arm)


def test_downloads_bookkeeping_is_not_part_of_a_model(project: Project, world: Path) -> None:
    before = set(expansion(project).jobs)
    cache = world / "models/llama/.cache/huggingface"
    cache.mkdir(parents=True)
    (cache / "model.metadata").write_text("1763850000.0")
    assert set(expansion(project).jobs) == before
