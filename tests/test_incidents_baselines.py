"""Incidents of baselines and of training: who saw the text, who wrote nothing, what was learnt.

docs/reliability.md lists all forty; each test is named after its number there.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import Project
from incidents import (
    Copy,
    add,
    ended,
    entries,
    jobs,
    lwspec,
    predictions,
    record,
    run_here,
    tables_alone,
)
from transformers import AutoModelForCausalLM, AutoTokenizer

from lwspec.engine.runs.runfolder import JobFolder
from lwspec.kernels.arm import Batch, Setup
from lwspec.kernels.arms import all_arms
from lwspec.kernels.data.rows import read_rows
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.data.stored import StoredBlock
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.training.learner import Learner

TASK = {"receiver_prompt": "Text: {context}\nColour:", "query": "Colour:", "max_prompt_tokens": 40}


@pytest.fixture
def receiver(world: Path) -> Reader:
    return Reader.load(world / "models/mistral", "float32", None, torch.device("cpu"))


def test_incident_08_a_tuned_baseline_states_whether_it_reads_the_text(
    copy_of_finished: Copy, receiver: Reader
) -> None:
    project = tables_alone(copy_of_finished())
    whole = project.spec.read_text()
    tuned = '[[experiment]]\nname = "{0}"\narms = ["prompt_tuning"]\nprompt_tuning = {{ {1} }}\n'
    add(project, tuned.format("tuned", "tokens = 4"))
    assert "lacks the key 'text'" in lwspec(project, "plan", "small.toml", status=2).err
    project.write(whole)
    add(
        project,
        tuned.format("tuned", "text = true")
        + tuned.format("blind", "text = false")
        + '[[table]]\nname = "tuned"\nexperiments = ["tuned", "blind"]',
    )
    lwspec(project, "report", "small.toml", "--paper", "paper")
    shown = (project.folder / "paper/tables/tuned.tex").read_text()
    assert r"Without the text: prompt\_tuning in blind." in shown
    arm = all_arms()["prompt_tuning"]
    for text, sees in ((True, True), (False, False)):
        settings = arm.declaration.settings.model_validate({"tokens": 4, "text": text})
        setup = Setup(settings, TASK, receiver, None)
        assert arm.build is not None and arm.present is not None
        setup = replace(setup, module=arm.build(setup))
        ids = arm.present(setup, None, Seen("red river", {}))[-1]
        assert ("red river" in receiver.tokenizer.decode(ids)) is sees


def test_incident_11_a_relay_that_is_not_understood_is_scored_and_counted(
    copy_of_finished: Copy,
) -> None:
    project = tables_alone(copy_of_finished())
    relay = predictions(jobs(project, "evaluate")["text_relay colour"])
    assert len(relay) == 30
    for row in relay:
        assert row["predicted"] in (0, 1, 2)
        assert all(math.isfinite(nats) for nats in row["label_logprobs"])
        assert row["written"] is not None
    add(
        project,
        '[[table]]\nname = "unparsed"\nexperiments = ["relay"]\nmetric = "unparsed_rate"',
    )
    share = 100 * sum(row["unparsed_rate"] for row in relay) / len(relay)
    assert float(entries(project, "unparsed")["text_relay"]["value"]) == pytest.approx(share)


def test_incident_17_each_model_reads_its_own_tokens_in_batches_as_large_as_stated(
    finished: Project, world: Path
) -> None:
    made = JobFolder(jobs(finished, "prepare")["states llama colour layer=1"])
    stored = StoredBlock(made.file("test", "states/test.safetensors"))
    data = JobFolder(jobs(finished, "prepare")["data colour"])
    rows = read_rows(data.file("result", "rows/test.parquet"))[:3]
    model = AutoModelForCausalLM.from_pretrained(world / "models/llama")
    own, others = (
        AutoTokenizer.from_pretrained(world / "models" / n) for n in ("llama", "mistral")
    )
    for row, states in zip(rows, stored.of(range(3)), strict=True):
        text = f"Text: {row.context}\nColour:"
        ids = [own.bos_token_id, *own(text, add_special_tokens=False)["input_ids"]]
        with torch.no_grad():
            told = model(input_ids=torch.tensor([ids]), output_hidden_states=True)
        torch.testing.assert_close(states, told.hidden_states[1][0], atol=1e-4, rtol=1e-3)
    assert len(own) != len(others)
    facts = record(jobs(finished, "fit")["bridge colour s1"] / "taken/epoch-002.json")["facts"]
    assert (facts["rows_at_once"], facts["steps"]) == (8, 2 * 48 // 8)


def test_incident_38_every_term_of_a_loss_is_learnt_and_no_test_row_chooses(
    copy_of_finished: Copy, receiver: Reader
) -> None:
    arm = all_arms()["bridge"]
    for weight in (0.0, 1.0):
        given = {"layer": 1, "latents": 4, "width": 16, "depth": 1, "heads": 2, "diversity": weight}
        setup = Setup(arm.declaration.settings.model_validate(given), TASK, receiver, 32)
        torch.manual_seed(0)
        assert arm.build is not None
        module = arm.build(setup)
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        train = {"learning_rate": 0.01, "weight_decay": 0.0, "clip_norm": 1.0}
        learner = Learner(arm, replace(setup, module=module), train)
        learner.messages(Batch(["", ""], states=[torch.randn(3, 32), torch.randn(5, 32)]))
        learner.leaves()[-1].grad = torch.zeros_like(learner.leaves()[-1])
        learner.update(0.01)
        moved = [not torch.equal(before[name], now) for name, now in module.state_dict().items()]
        assert any(moved) is bool(weight)
    project = copy_of_finished()
    for label, folder in jobs(project, "fit").items():
        reads = record(folder / "job.json")["reads"]
        assert not any(name.startswith("test") for role in reads.values() for name in role), label
    project.change("epochs = 2", 'epochs = 2, checkpoint = "best"')
    ran = run_here(project, "bridge colour s1")["bridge colour s1"]
    assert ended(ran)["outcome"] == "finished"
    epochs = JobFolder(jobs(project, "fit")["bridge colour s1"]).taken()
    scores = {name: made["metrics"]["validation_accuracy"] for name, made in epochs.items()}
    chosen = ran.taken()["result"]["facts"]["checkpoint"]["epoch"]
    assert scores[f"epoch-{chosen:03d}"] == max(scores.values())
