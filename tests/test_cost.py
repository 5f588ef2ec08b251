"""Prices from counted work, machines that were measured, and states that there is no room for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from conftest import Project
from pyarrow import parquet

from lwspec.engine.job import Job
from lwspec.engine.plan.cost import (
    ASSUMED,
    RECORDED,
    Facts,
    Machine,
    Work,
    training_work,
    work_of,
)
from lwspec.engine.plan.price import price
from lwspec.engine.plan.records import read_records
from lwspec.engine.runs.runfolder import Runs
from lwspec.engine.shapes import Shape
from lwspec.engine.store.store import Store
from lwspec.kernels.arms import all_arms
from lwspec.kernels.data.stored import room_for_states

NOTHING = Facts({}, {}, {}, {}, "cpu", {})
MACHINE = Machine(1e12, 1e11, 1e10, 1e-3, 1e8, 5.0)


def step_of(job: Job, together: int = 1) -> Work:
    shape = Shape(64, 4, 1e6)
    facts = Facts({"s": shape, "r": shape}, {}, {"data": 16}, {}, "cpu", {job.alike: together})
    return training_work(job, all_arms()["bridge"].declaration, facts)


def fit(*, gpus: int = 0, compiled: bool = False, batch: int = 16) -> Job:
    settings: dict[str, Any] = {
        "train": {"batch_size": batch},
        "samples": {},
        "arm_settings": {"layer": 1, "latents": 8, "width": 64},
        "task": {"query": "Colour:", "answer": " {label}"},
    }
    inputs = {"data": "data", "states": "states"}
    return Job(
        "fit-1", "fit", "bridge", settings, inputs, ("epoch-001",), "", {},
        names={"sender": "s", "receiver": "r"}, gpus=gpus, shares=True, compiled=compiled,
    )  # fmt: skip


def test_seconds_are_a_sum_over_kinds_of_work() -> None:
    work = Work(2e12, 1e11, 3e10, 500, 1e8, 0.5)
    assert MACHINE.seconds(work) == pytest.approx(2 + 1 + 3 + 0.5 + 1 + 2.5)
    assert MACHINE.seconds(work + work.times(2)) == pytest.approx(3 * MACHINE.seconds(work))


def test_a_step_counts_two_products_a_weight_each_way() -> None:
    """16 rows of 8 soft tokens and 2 tokens of the answer, through a million weights and back."""
    assert step_of(fit()).frozen_flop == 4 * 1e6 * 16 * 10


def test_a_toy_is_priced_by_the_minute_that_it_takes() -> None:
    work = work_of(replace(fit(), kind="prepare", step="toy"), {}, NOTHING, ("result",))
    assert 30 < ASSUMED["cpu"].seconds(work) < 90


def test_fits_together_share_what_the_receiver_hands_over_and_not_what_it_computes() -> None:
    alone, shared = step_of(fit()), step_of(fit(), together=4)
    assert shared.frozen_flop == alone.frozen_flop
    own = step_of(fit(), together=10**9).moved_bytes
    assert shared.moved_bytes - own == pytest.approx((alone.moved_bytes - own) / 4, rel=1e-6)
    assert shared.blocks < alone.blocks


def test_recorded_passes_cost_a_part_of_their_blocks() -> None:
    recorded, launched = step_of(fit(gpus=1, compiled=True)), step_of(fit(gpus=1))
    assert recorded.blocks == pytest.approx(RECORDED * launched.blocks)


def test_tokens_that_recorded_steps_write_cost_a_part_of_their_blocks() -> None:
    """Two tokens of an answer behind the prompt, in one batch."""
    shape = Shape(64, 4, 1e6)
    facts = Facts({"s": shape, "r": shape}, {"data": 16}, {}, {}, "cpu", {})
    settings = {**fit().settings, "rows": None}
    blocks = {}
    for compiled in (False, True):
        job = replace(fit(gpus=1, compiled=compiled), kind="evaluate", settings=settings)
        blocks[compiled] = work_of(
            job, {"bridge": all_arms()["bridge"].declaration}, facts, ["result"]
        ).blocks
    assert blocks == {False: 4 * (1 + 2), True: 4 * (1 + 2 * RECORDED)}


def test_what_is_timed_is_launched_block_by_block() -> None:
    """Texts are read to the sender's layer and by the receiver, and nine tokens written behind."""
    shape = Shape(64, 4, 1e6)
    facts = Facts({"s": shape, "r": shape}, {}, {}, {}, "cpu", {})
    settings = {
        "latency": {"batch_size": 8, "new_tokens": 9, "repeats": 4, "warmup": 1},
        "needs": [{"step": "states", "settings": {"layer": 2}}],
    }
    job = replace(fit(gpus=1), kind="latency", settings=settings)
    arms = {"bridge": all_arms()["bridge"].declaration}
    assert work_of(job, arms, facts, ["result"]).blocks == 10 * (2 + 4 + 4 * 9)


def test_a_reader_that_is_trained_is_launched_block_by_block_also_where_compiled() -> None:
    shape = Shape(64, 4, 1e6)
    facts = Facts({"s": shape, "r": shape}, {}, {"data": 16}, {}, "cpu", {})
    job = fit(gpus=1, compiled=True)
    settings = {**job.settings, "arm_settings": {}, "task": {"receiver_prompt": "", "answer": ""}}
    lora = replace(job, step="lora", settings=settings, inputs={"data": "data"})
    assert training_work(lora, all_arms()["lora"].declaration, facts).blocks > 0


def test_a_model_that_reads_for_its_message_is_priced_there_and_back() -> None:
    """64 tokens of 16 texts and 8 of memory; where they are said again, the receiver reads them."""
    shape = Shape(64, 4, 1e6)
    facts = Facts({"s": shape, "r": shape}, {}, {"data": 16}, {}, "cpu", {})
    task = {"sender_prompt": "", "query": "", "answer": "", "max_prompt_tokens": 256}
    counted = []
    for weight in (0.0, 1.0):
        settings = {**fit().settings, "arm_settings": {"autoencoding": weight}, "task": task}
        job = replace(fit(), step="icae", settings=settings, inputs={"data": "data"})
        counted.append(training_work(job, all_arms()["icae"].declaration, facts).frozen_flop)
    answered = step_of(fit()).frozen_flop
    assert counted == [answered + 4e6 * 16 * (64 + 8), answered + 4e6 * 16 * (64 + 8 + 64)]


def test_soft_prompts_alone_are_priced_without_the_text() -> None:
    shape = Shape(64, 4, 1e6)
    facts = Facts({"s": shape, "r": shape}, {}, {"data": 16}, {}, "cpu", {})
    task = {"receiver_prompt": "", "query": "", "answer": "", "max_prompt_tokens": 100}
    priced = {}
    for text in (True, False):
        arm = {"tokens": 8, "text": text}
        settings = {**fit().settings, "arm_settings": arm, "task": task}
        job = replace(fit(), step="prompt_tuning", settings=settings, inputs={"data": "data"})
        work = training_work(job, all_arms()["prompt_tuning"].declaration, facts)
        priced[text] = work.frozen_flop
    assert priced[True] > 3 * priced[False]


def test_what_another_model_of_cost_modelled_is_no_history(
    copy_of_finished: Callable[[], Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = copy_of_finished()
    project.run("status", "small.toml")
    store = Store(project.folder / "results.db", shared=False)
    done = {id: Runs(project.runs).folder(id).job() for id in Runs(project.runs).listed()}
    owing = {id: replace(job, outputs=(*job.outputs, "more")) for id, job in done.items()}
    assert read_records(store, owing).history
    assert not read_records(store, done).history  # nothing is left to price
    monkeypatch.setattr("lwspec.engine.plan.cost.VERSION", -1)
    assert not read_records(store, owing).history


def test_a_price_without_history_is_by_the_machine_that_was_measured() -> None:
    assumed, benched = price("fit x", 100.0, "cpu", []), price("fit x", 100.0, "cpu", [], 50.0)
    assert benched.p50_hours == pytest.approx(assumed.p50_hours / 2)
    assert benched.p90_hours / benched.p50_hours < assumed.p90_hours / assumed.p50_hours


def test_bench_records_this_machine_and_plans_are_priced_by_it(project: Project) -> None:
    before = json.loads(project.run("plan", "small.toml", "--json").stdout)
    assert "lwspec bench measures one" in project.run("plan", "small.toml").stdout
    shown = project.run("bench").stdout
    kept = json.loads((project.runs / "machines/cpu.json").read_text())
    assert kept["hardware"] in shown
    assert kept["evidence"]["command"][:2] == ["lwspec", "bench"]
    assert all(value > 0 for value in kept["machine"].values())
    assert set(kept["machine"]) == set(vars(ASSUMED["cpu"]))
    assert kept["hardware"] in project.run("plan", "small.toml").stdout
    after = json.loads(project.run("plan", "small.toml", "--json").stdout)
    assert after["p50_hours"] != before["p50_hours"]
    assert after["digest"] == before["digest"]


@pytest.mark.parametrize("threads", ["0", "-1", "9999"])
def test_bench_takes_no_more_threads_than_there_are(project: Project, threads: str) -> None:
    done = project.run("bench", f"--threads={threads}", status=2)
    assert "this machine has" in done.stderr
    assert not (project.runs / "machines").exists()


def test_room_for_states_is_bounded_and_counts_what_is_there(project: Project) -> None:
    from lwspec.engine.runs.runfolder import Runs

    folder = project.runs / "prepare-1/attempt-1/states"
    folder.mkdir(parents=True)
    (folder / "train.safetensors").write_bytes(bytes(300))
    assert room_for_states(Runs(project.runs), 1000) == 700
    assert room_for_states(Runs(project.runs), None) > 1000


def answers(project: Project) -> dict[str, list[int]]:
    """What each evaluation of the bridge predicted."""
    found = {}
    for path in project.runs.glob("evaluate-*/attempt-1/predictions/*.parquet"):
        job = json.loads((path.parents[2] / "job.json").read_text())
        if job["step"] == "bridge":
            found[job["label"]] = parquet.read_table(path).column("predicted").to_pylist()
    return found


def test_states_without_room_are_made_anew_and_say_the_same(
    finished: Project, project: Project
) -> None:
    project.change("threads = 1\n", "threads = 1\nstates_gb = 0\n")
    project.run("submit", "small.toml", "--yes", "--only", "bridge")
    files = Counter(path.parts[-2] for path in project.runs.glob("prepare-*/attempt-*/*/*"))
    assert files["states"] == 0
    events = "".join(path.read_text() for path in project.runs.glob("prepare-*/*/events.jsonl"))
    assert "no_room" in events
    stored = answers(finished)
    for label, predicted in answers(project).items():
        assert predicted == stored[label], label
    assert answers(project)
