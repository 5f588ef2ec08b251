"""The evaluator: one way of scoring for every arm, split and control.

Each label's whole answer is scored by its log-probability; beside it the reader writes freely, and
what it wrote counts only where it is exactly one of the answers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow
import torch
from pyarrow import parquet

from lwspec.engine.runfolder import read_json, write_json
from lwspec.kernels import wire
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.attempt import Attempt
from lwspec.kernels.checkpoint import load_weights
from lwspec.kernels.items import Items, drawn_items, open_items
from lwspec.kernels.metrics import classification_metrics, parse_answer
from lwspec.kernels.sender import by_length
from lwspec.kernels.setup import answers_of, no_messages, open_setup, present_all

VALIDATION_BATCH = 32
TEXT = "text"
"""The precision of a message that is no tensor."""


@dataclass(frozen=True)
class Scored:
    """Predictions of one split, in the order of its rows."""

    label_logprobs: list[list[float]]
    predicted: list[int]
    written: list[str] | None
    message_bytes: list[int] | None
    metrics: dict[str, float]


def score(
    attempt: Attempt,
    arm: Arm,
    setup: Setup,
    items: Items,
    *,
    batch_size: int = VALIDATION_BATCH,
    precision: str | None = None,
    write: bool = False,
) -> Scored:
    """Score every row; with `precision`, messages pass through bytes first."""
    num_labels = len(setup.task["labels"])
    if arm.predict is not None:
        logprobs = arm.predict(setup, items.everything())
        predicted = logprobs.argmax(-1).tolist()
        metrics = classification_metrics(items.labels, predicted, num_labels)
        return Scored(logprobs.tolist(), predicted, None, None, metrics)
    assert setup.reader is not None
    answer = answers_of(setup.task, setup.reader)
    rows = len(items.rows)
    logprobs_of: list[list[float]] = [[] for _ in range(rows)]
    first = [-1] * rows
    written, sizes = [""] * rows, [0] * rows
    longest = max(len(ids) for ids in answer.ids) + 1 if write else 0
    done = 0
    for indices in by_length([len(row.context) for row in items.rows], batch_size):
        attempt.check()
        messages, lengths = _messages(arm, setup, items.batch(indices), precision)
        contexts = [items.rows[index].context for index in indices]
        with torch.no_grad():
            prompts = present_all(arm, setup, messages, contexts)
        said = setup.reader.answer(prompts, answer.ids, longest)
        for place, index in enumerate(indices):
            logprobs_of[index] = said.label_logprobs[place].tolist()
            first[index] = int(said.first_token[place])
            sizes[index] = lengths[place]
            if said.written is not None:
                written[index] = said.written[place]
        done += len(indices)
        attempt.progress(done, rows, "scoring")
    predicted = [max(range(num_labels), key=row.__getitem__) for row in logprobs_of]
    metrics = classification_metrics(items.labels, predicted, num_labels)
    metrics["first_token_accuracy"] = _mean(
        token == answer.ids[label][0] for token, label in zip(first, items.labels, strict=True)
    )
    if write:
        metrics |= _strict(written, answer.texts, items.labels)
    sent = precision is not None and arm.message is not None
    if sent:
        metrics["message_bytes"] = _mean(sizes)
    return Scored(
        logprobs_of, predicted, written if write else None, sizes if sent else None, metrics
    )


def _messages(
    arm: Arm, setup: Setup, batch: Batch, precision: str | None
) -> tuple[Sequence[Any], list[int]]:
    """What reaches the receiver, and the bytes that each message took on the way."""
    lengths = [0] * len(batch.contexts)
    if arm.message is None:
        return no_messages(batch.contexts), lengths
    with torch.no_grad():
        messages = arm.message(setup, batch)
    return (messages, lengths) if precision is None else wire.send(messages, precision)


def evaluate(attempt: Attempt, device: torch.device) -> None:
    """Test the job's arm once, store every prediction, and write the auditor's record."""
    settings = attempt.job.settings
    sample_seed = attempt.input("data").job().settings["sample_seed"]
    items = drawn_items(open_items(attempt, settings["split"]), settings["rows"], sample_seed)
    arm, setup = open_setup(attempt, items, device)
    weights, checkpoint = _weights(attempt) if "fit" in attempt.job.inputs else ({}, None)
    setup = replace(setup, weights=weights)
    if arm.build is not None:
        module = arm.build(setup).to(device).eval()
        module.load_state_dict(weights)
        setup = replace(setup, module=module)
    scored = score(
        attempt,
        arm,
        setup,
        items,
        batch_size=settings.get("batch_size", VALIDATION_BATCH),
        precision=settings.get("precision", TEXT),
        write=True,
    )
    predictions = _write_predictions(attempt, items, scored)
    record = _write_record(attempt, len(items.rows), checkpoint, scored.metrics)
    attempt.take(
        "result",
        [predictions, record],
        scored.metrics,
        {"n": len(items.rows), "subset": _is_subset(attempt, items), "checkpoint": checkpoint},
    )


def _is_subset(attempt: Attempt, items: Items) -> bool:
    record = attempt.input("data").taken()["result"]
    return len(items.rows) < int(record["facts"]["rows"][attempt.job.settings["split"]])


def _mean(values: Any) -> float:
    listed = [float(value) for value in values]
    return sum(listed) / len(listed)


def _strict(
    written: Sequence[str], answers: Sequence[str], labels: Sequence[int]
) -> dict[str, float]:
    """Accuracy of what was freely written, an unparsed answer being wrong, and their rate."""
    parsed = [parse_answer(text, answers) for text in written]
    right = (said == label for said, label in zip(parsed, labels, strict=True))
    return {
        "strict_accuracy": _mean(right),
        "unparsed_rate": _mean(said is None for said in parsed),
    }


def _weights(attempt: Attempt) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The weights of the epoch that the spec names, checked by hash, and what names them."""
    made = attempt.input("fit")
    ((which, epochs),) = attempt.job.settings["checkpoint"].items()
    taken = made.taken()
    output = f"epoch-{epochs:03d}"
    if which == "best":
        among = [f"epoch-{epoch:03d}" for epoch in range(1, epochs + 1)]
        output = max(among, key=lambda name: taken[name]["metrics"]["validation_accuracy"])
    name = f"weights/{output}.safetensors"
    sha256 = taken[output]["files"][name]
    weights = load_weights(made.file(output, name), sha256)
    return weights, {"fit": made.path.name, "epoch": int(output[-3:]), "sha256": sha256}


def _write_predictions(attempt: Attempt, items: Items, scored: Scored) -> Path:
    columns: dict[str, Any] = {
        "item": [row.item for row in items.rows],
        "label": items.labels,
        "predicted": scored.predicted,
        "label_logprobs": scored.label_logprobs,
    }
    if scored.written is not None:
        columns["written"] = scored.written
    if scored.message_bytes is not None:
        columns["message_bytes"] = scored.message_bytes
    path = attempt.path / "predictions" / f"{attempt.job.settings['split']}.parquet"
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path)
    return path


def _write_record(
    attempt: Attempt, n: int, checkpoint: dict[str, Any] | None, metrics: dict[str, float]
) -> Path:
    """evaluation.json: what the reviewers asked to find with every number."""
    job = attempt.job
    evidence = read_json(attempt.path / "started.json")["evidence"]
    fit = attempt.input("fit").job().settings if "fit" in job.inputs else {}
    path = attempt.path / "evaluation.json"
    write_json(
        path,
        {
            "arm": job.settings["arm"],
            "task": job.names["task"],
            "sender": job.names["sender"],
            "receiver": job.names["receiver"],
            "models": {**_sender_model(attempt), **job.settings["models"]},
            "data": job.inputs["data"],
            "labels": job.settings["task"]["labels"],
            "split": job.settings["split"],
            "seed": fit.get("seed"),
            "checkpoint": checkpoint,
            "metrics": metrics,
            "n": n,
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "git_sha": evidence["git_sha"],
            "dirty": evidence["dirty"],
            "command": evidence["command"],
            "hardware": evidence["hardware"],
            "host": evidence["host"],
        },
    )
    return path


def _sender_model(attempt: Attempt) -> dict[str, Any]:
    """The sender behind prepared states or texts."""
    for role in ("states", "text"):
        if role in attempt.job.inputs:
            return {"sender": attempt.input(role).job().settings["model"]}
    return {}
