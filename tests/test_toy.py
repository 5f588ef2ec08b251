"""Tests of the toy pair's tasks and tokenizers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from subprocess import run
from sys import executable

import pytest

from lwspec.kernels.toy.text import LABELS, SIZES, TASKS, lm_documents, prompt, rows


@pytest.mark.parametrize("task", TASKS)
def test_rows_are_balanced_and_disjoint(task: str) -> None:
    seen: set[str] = set()
    for split, size in SIZES.items():
        found = rows(task, split)
        counts = Counter(row["label"] for row in found)
        assert set(counts) == set(range(len(LABELS[task])))
        assert set(counts.values()) == {size // len(LABELS[task])}
        texts = {str(row["text"]) for row in found}
        assert len(texts) == size and not texts & seen
        seen |= texts
    for which in ("llama", "mistral"):
        bodies = {asked.split(": ", 1)[1].split("\n")[0] for asked, _ in lm_documents(which, 4000)}
        assert not bodies & seen


def test_rows_do_not_depend_on_the_process() -> None:
    code = "from lwspec.kernels.toy.text import rows; print(rows('topic', 'test')[:20])"
    found = run([executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(rows("topic", "test")[:20])


@pytest.mark.parametrize("task", TASKS)
def test_first_words_do_not_tell_the_label(task: str) -> None:
    # A vote of word counts learnt on the training rows stays near chance on the test rows.
    def first(row: dict[str, str | int]) -> list[str]:
        return str(row["text"]).split()[:8]

    counts = Counter((word, row["label"]) for row in rows(task, "train") for word in first(row))
    totals = Counter(word for row in rows(task, "train") for word in first(row))
    labels = range(len(LABELS[task]))
    right = 0
    for row in rows(task, "test"):
        votes = [sum(counts[w, i] / max(totals[w], 1) for w in first(row)) for i in labels]
        right += votes.index(max(votes)) == row["label"]
    assert abs(right / SIZES["test"] - 1 / len(labels)) < 0.06


@pytest.mark.parametrize("which", ["llama", "mistral"])
def test_tokenizers_round_trip(which: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from lwspec.kernels.toy.lm import build_tokenizer

    documents = lm_documents(which, 2000)
    build_tokenizer(which, [text + answer for text, answer in documents]).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for task in TASKS:
        text = str(rows(task, "test")[Random(0).randrange(500)]["text"])
        asked = prompt(task, text)
        ids = tokenizer(asked)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id and tokenizer.eos_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == asked
        for label in LABELS[task]:
            answer = tokenizer(f" {label}", add_special_tokens=False)["input_ids"]
            assert tokenizer(f"{asked} {label}")["input_ids"] == ids + answer
