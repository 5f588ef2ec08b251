"""Text that is cut to a number of bytes."""

from __future__ import annotations

import pytest
from conftest import Project
from test_expand import expansion

from lwspec.kernels.arm import Batch, Setup
from lwspec.kernels.arms import all_arms
from lwspec.kernels.methods.capped import first_bytes


def test_a_text_is_cut_between_characters() -> None:
    text = "blå å och 語"
    for most in range(len(text.encode()) + 2):
        cut = first_bytes(text, most)
        assert text.startswith(cut)
        assert len(cut.encode()) <= most
        if cut != text:
            assert len(text[: len(cut) + 1].encode()) > most
    assert first_bytes(text, None) == text


@pytest.mark.parametrize("name", ["text_relay", "perplexity_pruning"])
def test_what_the_sender_wrote_is_cut_after_it_was_written(name: str) -> None:
    arm = all_arms()[name]
    given = {"prompt": "{context}"} if name == "text_relay" else {}
    settings = arm.declaration.settings.model_validate({**given, "max_bytes": 4})
    sent = arm.message(Setup(settings, {}, None, None), Batch([""] * 2, texts=["röda", "a"]))
    assert [*sent] == ["röd", "a"]
    plain = arm.declaration.settings.model_validate(given)
    assert arm.declaration.needs(settings) == arm.declaration.needs(plain)


def test_a_cap_is_part_of_identity_only_where_there_is_one(project: Project) -> None:
    before = expansion(project)
    relay = [job for job in before.jobs.values() if job.step == "text_relay"]
    assert [set(job.settings["arm_settings"]) for job in relay] == [{"prompt", "max_new_tokens"}]
    project.change("max_new_tokens = 6 }", "max_new_tokens = 6, max_bytes = 9 }")
    after = expansion(project)
    changed = set(after.jobs) - set(before.jobs)
    assert {after.jobs[job].label for job in changed} == {"text_relay colour"}


def test_a_budget_of_bytes_takes_capped_text_alone(project: Project) -> None:
    project.keep("relay")
    project.change('arms = ["text_relay"]', 'arms = ["text_relay"]\nevaluate = { max_bytes = 9 }')
    assert "is of no known length" in project.run("plan", "small.toml", status=2).stderr
    project.change("max_new_tokens = 6 }", "max_new_tokens = 6, max_bytes = 9 }")
    project.run("plan", "small.toml")
