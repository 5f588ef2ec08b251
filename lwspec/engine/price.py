"""What a job will cost: measured where its like was run, else modelled from its arithmetic.

Hours are counted in the spec's unit: one GPU of the kind that the budget names, or one process
of a CPU.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lwspec.engine.arm import ArmDeclaration
from lwspec.engine.job import BLOCK_ROWS, Job
from lwspec.engine.shapes import Shape

FLOPS = {"h100": 300e12, "h200": 300e12, "a100": 120e12, "cpu": 120e9}
"""Assumed useful floating-point operations a second, by the unit of the budget."""

SPREAD = 3.0
"""p90 over p50 of a modelled price: how far the model is trusted."""

OUTGROWN = 2.0
"""p90 over what a job had spent when its allowance ended."""

START_S = 5.0
"""Loading libraries and models."""

SHORT_PROMPT_TOKENS = 24
TEXT_TOKENS = 64
"""Of a text and its prompt, where nothing says how long texts are."""
CHARS_PER_TOKEN = 4
DEFAULT_ROWS = 10_000


@dataclass(frozen=True)
class Price:
    """Hours of one job, median and 90th percentile, and where the figure comes from."""

    p50_hours: float
    p90_hours: float
    source: Literal["measured", "modelled"]


@dataclass(frozen=True)
class Measurement:
    """One finished attempt: the modelled seconds of what it did, and the seconds it took."""

    key: str
    unit: str
    """The budget's unit that this hardware is: prices are not carried over to another."""
    modelled_s: float
    device_s: float


@dataclass(frozen=True)
class Facts:
    """What pricing knows of the models and data behind the jobs."""

    shapes: Mapping[str, Shape]
    """The spec's name of a model to its shape."""
    test_rows: Mapping[str, int]
    """Data job id to its number of test rows, where known."""
    train_rows: Mapping[str, int]
    context_chars: Mapping[str, int]
    """Data job id to where its contexts are cut, where the spec says."""
    unit: str


def unit_of(gpu: str | None) -> str | None:
    """The budget's unit that a GPU by its full name is; None for one that has none."""
    if gpu is None:
        return "cpu"
    return next((unit for unit in FLOPS if unit in gpu.lower()), None)


def price_key(kind: str, step: str, *, beside: bool) -> str:
    """Jobs with one key cost alike for each modelled second: the history is kept by it."""
    return f"{kind} {step}{' side by side' if beside else ''}"


def price(key: str, modelled_s: float, unit: str, history: Iterable[Measurement]) -> Price:
    """The price of a job of so many modelled seconds, scaled by what its like has taken."""
    ratios = sorted(
        past.device_s / past.modelled_s for past in history if past.key == key and past.unit == unit
    )
    if not ratios:
        hours = modelled_s / 3600
        return Price(hours, hours * SPREAD, "modelled")
    p90 = ratios[-1] if len(ratios) < 10 else statistics.quantiles(ratios, n=10)[-1]
    hours = modelled_s * statistics.median(ratios) / 3600
    return Price(hours, max(hours * 1.2, modelled_s * p90 / 3600), "measured")


def above(price: Price, spent_hours: float) -> Price:
    """The price of a job that has once spent so much and was stopped before its end."""
    return Price(
        max(price.p50_hours, spent_hours),
        max(price.p90_hours, OUTGROWN * spent_hours),
        price.source,
    )


def modelled_seconds(
    job: Job, arms: Mapping[str, ArmDeclaration], facts: Facts, outputs: Sequence[str]
) -> float:
    """Device seconds of the budget's unit that a job's outputs should take, from their arithmetic.

    0 where only GPUs are counted and the job holds none.
    """
    return job.charge * (START_S + _flop(job, arms, facts, outputs) / FLOPS[facts.unit])


def _flop(
    job: Job, arms: Mapping[str, ArmDeclaration], facts: Facts, outputs: Sequence[str]
) -> float:
    settings = job.settings
    test_rows = facts.test_rows.get(job.inputs.get("data", ""), DEFAULT_ROWS)
    if job.step == "toy":
        return 1.0e12
    if job.step == "data":
        return 0.0
    if job.kind == "latency":
        return _timing_flop(job, facts)
    sender, receiver = facts.shapes[job.names["sender"]], facts.shapes[job.names["receiver"]]
    if job.kind == "prepare":
        rows = sum(_rows_of(output, test_rows, job, facts) for output in outputs)
        tokens = _prompt_tokens(settings["max_prompt_tokens"], job, facts)
        tokens += 4 * settings.get("max_new_tokens", 0)
        depth = settings.get("layer", sender.layers) / sender.layers
        return float(2 * sender.parameters * depth * tokens * rows)
    arm = arms[job.step]
    reader = receiver if "receiver" in arm.models else sender
    parsed = arm.settings.model_validate(settings["arm_settings"])
    reads: float = SHORT_PROMPT_TOKENS + arm.message_tokens(parsed)
    if "max_prompt_tokens" in settings["task"] and not arm.message_tokens(parsed):
        reads = _prompt_tokens(settings["task"]["max_prompt_tokens"], job, facts)
    reads += arm.examples(parsed) * len(settings["task"].get("labels", ())) * TEXT_TOKENS
    reads += 4 * settings["task"].get("max_new_tokens", 0)
    per_row = 2 * reader.parameters * reads if arm.models else 0.0
    if job.kind == "evaluate":
        return per_row * min(settings["rows"] or test_rows, test_rows)
    samples = facts.train_rows.get(job.inputs["data"], DEFAULT_ROWS)
    wanted = settings["samples"].get("max") or settings["samples"].get("exactly")
    samples = min(samples, wanted or samples)
    trainable = arm.parameters(parsed, sender.width, receiver.width)
    if settings.get("teacher"):
        per_row += 2 * reader.parameters * TEXT_TOKENS / 3
    return (3 * per_row + 6 * trainable * SHORT_PROMPT_TOKENS) * samples * len(outputs)


def _rows_of(output: str, test_rows: int, job: Job, facts: Facts) -> int:
    """Rows of one output of the sender's: a block of train, all of it, or another split."""
    if output == "train-all":
        return facts.train_rows.get(job.inputs["data"], DEFAULT_ROWS)
    return BLOCK_ROWS if output.startswith("train") else test_rows


def _prompt_tokens(most: int, job: Job, facts: Facts) -> float:
    """Tokens of a prompt around a text: guessed from where texts are cut, or from the limit."""
    chars = facts.context_chars.get(job.inputs["data"])
    if chars is not None:
        return min(most, chars / CHARS_PER_TOKEN)
    return min(most, TEXT_TOKENS) if most <= 4 * TEXT_TOKENS else most / 2


def _timing_flop(job: Job, facts: Facts) -> float:
    """A timing: every batch twice, with and without its parts, through each model it runs."""
    latency = job.settings["latency"]
    written = latency["new_tokens"] + sum(
        need["settings"].get("max_new_tokens", 0) for need in job.settings["needs"]
    )
    size = sum(facts.shapes[job.names[role]].parameters for role in job.settings["models"])
    rows = 2 * (latency["repeats"] + latency["warmup"]) * latency["batch_size"]
    # A token written one by one costs as much as reading a few: memory, not arithmetic, decides.
    return float(2 * size * rows * (TEXT_TOKENS + 10 * written))
