"""What a job asks of a machine, from its arithmetic, and how long a machine takes for it.

Work is counted, not timed: floating-point operations, bytes that memory moves, blocks of models
that the host must launch one by one, bytes that go to disk. A machine does so much of each a
second, one after the other; what overlaps and what it does worse is learnt from jobs that were run
(price.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import ceil

from lwspec.engine.arm import ArmDeclaration, Role
from lwspec.engine.job import ANSWERED_CHARS, BLOCK_ROWS, READ_CHARS, ROWS_AT_ONCE, Job
from lwspec.engine.shapes import Shape


@dataclass(frozen=True)
class Work:
    """What is to be done, in counts."""

    frozen_flop: float = 0.0
    """Of the frozen models, in their dtype."""
    trained_flop: float = 0.0
    """Of what is trained, in float32; on a GPU in TF32."""
    moved_bytes: float = 0.0
    """Weights, gradients and optimiser states, as often as memory must hand them over."""
    blocks: float = 0.0
    """Blocks of models that the host launches: one forward, two back; of one that is replayed from
    a recording, RECORDED."""
    disk_bytes: float = 0.0
    starts: float = 0.0
    """Of a process with its libraries and models: a part of one where jobs share it."""

    def __add__(self, other: Work) -> Work:
        return Work(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def times(self, factor: float) -> Work:
        """The same so many times."""
        return Work(*(getattr(self, f.name) * factor for f in fields(self)))


@dataclass(frozen=True)
class Machine:
    """How much of each kind of work is done a second, and how long what is counted takes."""

    frozen_flop_s: float
    trained_flop_s: float
    moved_bytes_s: float
    block_s: float
    """Seconds for one block."""
    disk_bytes_s: float
    start_s: float

    def seconds(self, work: Work) -> float:
        """How long it takes."""
        return (
            work.starts * self.start_s
            + work.frozen_flop / self.frozen_flop_s
            + work.trained_flop / self.trained_flop_s
            + work.moved_bytes / self.moved_bytes_s
            + work.blocks * self.block_s
            + work.disk_bytes / self.disk_bytes_s
        )


START_S = 30.0
"""Of a process with libraries and a pair of some billion parameters, mostly their files."""

ASSUMED = {
    "h100": Machine(740e12, 400e12, 2.8e12, 0.8e-3, 4e8, START_S),
    "h200": Machine(740e12, 400e12, 4.0e12, 0.8e-3, 4e8, START_S),
    "a100": Machine(250e12, 120e12, 1.6e12, 0.8e-3, 4e8, START_S),
    "cpu": Machine(60e9, 60e9, 10e9, 0.4e-3, 2e8, 3.0),
}
"""By the unit of the budget, until `lwspec bench` has measured one: large products and copies of
the cards (docs/performance.md; for the A100 its data sheet), one thread of a server's CPU."""

RECORDED = 0.08
"""Of a launched block: what a recorded one takes beside its products and bytes. On an H200 a
seed's training step by itself and a written token then cost what they took within a tenth
(docs/performance.md)."""

VERSION = 6
"""Raised when what is counted or assumed changes: seconds modelled before say nothing of those
after."""

TOY = Work(trained_flop=1.5e12, moved_bytes=1.5e11, blocks=2.0e4)
"""The training of one of the toy pair: 640 or 900 steps over some 800 tokens each, whose
activations weigh more than weights so small."""

TEXT_TOKENS = 64
"""Of a text and its prompt, where nothing says how long texts are."""
CHARS_PER_TOKEN = 4
DEFAULT_ROWS = 10_000
VALIDATION_ROWS = 500
ANSWER_TOKENS = 2
"""Of a label and the end token behind it."""


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
    together: Mapping[str, int]
    """How many fits share a receiver's pass, by what they have in common."""
    starts: Mapping[str, float] = field(default_factory=dict)
    """Job id to its part of a process's start; a whole one where it is not named."""


def work_of(
    job: Job, arms: Mapping[str, ArmDeclaration], facts: Facts, outputs: Sequence[str]
) -> Work:
    """What a job's outputs ask for."""
    return Work(starts=facts.starts.get(job.id, 1.0)) + _of_outputs(job, arms, facts, outputs)


def _of_outputs(
    job: Job, arms: Mapping[str, ArmDeclaration], facts: Facts, outputs: Sequence[str]
) -> Work:
    if job.step == "toy":
        return TOY
    if job.step == "data":
        return Work()
    if job.kind == "latency":
        return _timing(job, arms, facts)
    if job.kind == "prepare":
        return _sender(job, facts, outputs)
    arm = arms[job.step]
    solving = Work(disk_bytes=_train_rows(job, facts) * 4.0 * _sender_shape(job, facts).width)
    if not arm.models:
        return solving
    if job.kind == "evaluate":
        rows = facts.test_rows.get(job.inputs["data"], DEFAULT_ROWS)
        return _scoring(job, arm, facts, min(job.settings["rows"] or rows, rows))
    validation = sum((_scoring(p, arm, facts, VALIDATION_ROWS) for p in job.parts), Work())
    if not arm.epochs:
        return solving + validation + _reading(job, arm, facts)
    # What else is stored is stored behind the training.
    last = Work(disk_bytes=12.0 * _weights(job, arm, facts))  # weights and two moments
    return (training_work(job, arm, facts) + validation).times(len(outputs)) + last


def training_work(job: Job, arm: ArmDeclaration, facts: Facts) -> Work:
    """An epoch: steps whose batches hold rows of each of the fit's tasks."""
    rows = [_train_rows(part, facts) for part in job.parts]
    steps = ceil(sum(rows) / job.settings["train"]["batch_size"])
    share = facts.together.get(job.alike, 1)
    work = Work()
    for part, its in zip(job.parts, rows, strict=True):
        work += _step(part, arm, facts, share).times(steps * its / sum(rows))
    return work


def copied_bytes(job: Job, arms: Mapping[str, ArmDeclaration], facts: Facts) -> int:
    """What fits side by side keep in the host's memory while it is stored: weights, two moments."""
    if job.kind != "fit" or not arms[job.step].epochs:
        return 0
    return 12 * _weights(job, arms[job.step], facts) * facts.together.get(job.alike, 1)


def _weights(job: Job, arm: ArmDeclaration, facts: Facts) -> int:
    """How many parameters are trained."""
    parsed = arm.settings.model_validate(job.settings["arm_settings"])
    shapes: dict[Role, Shape] = {"sender": _sender_shape(job, facts)}
    return arm.trained_parameters(parsed, {**shapes, "receiver": _reader(job, arm, facts)})


def _step(job: Job, arm: ArmDeclaration, facts: Facts, share: int) -> Work:
    """The receiver's pass over a batch, shared with other fits, and the arm's own weights."""
    train, reader = job.settings["train"], _reader(job, arm, facts)
    batch: int = train["batch_size"]
    tokens = _read_tokens(job, arm, facts)
    launched = _launched(job, arm)
    parsed = arm.settings.model_validate(job.settings["arm_settings"])
    read_as = 2 if arm.separation(parsed) else 1  # with its own message, and with another's
    passed = Work(
        frozen_flop=4 * reader.parameters * batch * tokens * read_as,
        moved_bytes=2 * 2 * reader.parameters / share,
        blocks=launched * 3 * reader.layers / share,
    )
    if job.settings.get("teacher"):
        passed += Work(frozen_flop=2 * reader.parameters * batch * TEXT_TOKENS)
    weights = _weights(job, arm, facts)
    read = TEXT_TOKENS / 8 if "states" in job.inputs else 0  # by its cross-attention's keys, values
    own = Work(
        trained_flop=6 * weights * batch * (max(1, arm.message_tokens(parsed)) + read),
        moved_bytes=11 * 4 * weights,
        blocks=launched * 6.0,
    )
    read_here = _reading_along(job, arm, facts, batch, 1, learns=True)
    return passed + own + read_here


def _reading(job: Job, arm: ArmDeclaration, facts: Facts) -> Work:
    """The passes over the training texts of a fit that is solved in one step."""
    passes = arm.passes(arm.settings.model_validate(job.settings["arm_settings"]))
    if not passes:
        return Work()
    reader, rows = _reader(job, arm, facts), _train_rows(job, facts)
    batches = ceil(rows / _at_once(job, arm, facts, READ_CHARS))
    tokens = _prompt_tokens(job.settings["task"]["max_prompt_tokens"], job, facts)
    once = Work(
        frozen_flop=2 * reader.parameters * rows * tokens,
        moved_bytes=2 * reader.parameters * batches,
        blocks=reader.layers * batches,
    )
    return once.times(passes)


def _scoring(job: Job, arm: ArmDeclaration, facts: Facts, rows: int) -> Work:
    """Rows read, their labels with them, and answers written token by token."""
    reader, task = _reader(job, arm, facts), job.settings["task"]
    tokens = _read_tokens(job, arm, facts)
    written = task.get("max_new_tokens", ANSWER_TOKENS if job.kind == "evaluate" else 0)
    batches = ceil(rows / _at_once(job, arm, facts, ANSWERED_CHARS))
    read, launched = batches, _launched(job, arm)
    if bits := job.settings.get("bits", 0):  # the context behind the prompt, twice
        tokens, read = tokens + 2 * (tokens + bits), read + 2 * batches
    return _reading_along(job, arm, facts, rows, batches, learns=False) + Work(
        frozen_flop=2 * reader.parameters * rows * (tokens + written),
        moved_bytes=2 * reader.parameters * (read + batches * written),
        blocks=reader.layers * (read + launched * batches * written),
    )


def _reading_along(
    job: Job, arm: ArmDeclaration, facts: Facts, rows: int, batches: int, *, learns: bool
) -> Work:
    """The texts' passes through a model that an arm's own jobs make messages with.

    The sender, or the receiver in its place; there and back where it learns with weights of the
    arm's in it, and then the receiver's too, where it must say the texts again.
    """
    task = job.settings["task"]
    if not (arm.soft and "sender_prompt" in task):
        return Work()
    reads = _sender_shape(job, facts) if "sender" in arm.models else _reader(job, arm, facts)
    parsed = arm.settings.model_validate(job.settings["arm_settings"])
    tokens = _prompt_tokens(task["max_prompt_tokens"], job, facts)
    back = learns and bool(arm.own)

    def passed(shape: Shape, read: float) -> Work:
        return Work(
            frozen_flop=(4 if back else 2) * shape.parameters * rows * read,
            moved_bytes=(4 if back else 2) * shape.parameters * batches,
            blocks=(3 if back else 1) * shape.layers * batches,
        )

    made = passed(reads, tokens + arm.message_tokens(parsed))
    again = learns and bool(getattr(parsed, "autoencoding", 0.0))
    return made + passed(_reader(job, arm, facts), tokens) if again else made


def _launched(job: Job, arm: ArmDeclaration) -> float:
    """What part of a launched block one costs in passes of training and of written tokens.

    They are recorded where the models are compiled for a GPU, and none holds weights of the arm's
    or is given keys, values or states.
    """
    recorded = job.compiled and job.gpus and not arm.own and arm.vectors is None
    return RECORDED if recorded else 1.0


def _sender(job: Job, facts: Facts, outputs: Sequence[str]) -> Work:
    """The sender's pass over the rows of some outputs, up to its layer, and what is stored."""
    sender, settings = _sender_shape(job, facts), job.settings
    rows = sum(_rows_of(output, job, facts) for output in outputs)
    tokens = _prompt_tokens(settings["max_prompt_tokens"], job, facts)
    written = settings.get("max_new_tokens", 0)
    depth = settings.get("layer", sender.layers) / sender.layers
    most = ANSWERED_CHARS if written else READ_CHARS
    batches = ceil(rows / min(ROWS_AT_ONCE, max(1, most // int(tokens * CHARS_PER_TOKEN))))
    passes = batches * (depth + written)
    stored = {"states": 2 * tokens, "pooled": 4 * (sender.layers + 1)}.get(job.step, 0.0)
    return Work(
        frozen_flop=2 * sender.parameters * rows * (tokens * depth + written),
        moved_bytes=2 * sender.parameters * passes,
        blocks=sender.layers * passes,
        disk_bytes=rows * sender.width * stored,
    )


def _timing(job: Job, arms: Mapping[str, ArmDeclaration], facts: Facts) -> Work:
    """Every batch twice, with and without its parts: what the sender makes, and the answer."""
    latency, arm = job.settings["latency"], arms[job.step]
    passes = Work()
    for need in job.settings["needs"]:
        sender, asked = _sender_shape(job, facts), need["settings"]
        depth = asked.get("layer", sender.layers) / sender.layers
        passes += _passes(sender, latency["batch_size"], depth, asked.get("max_new_tokens", 0))
    if arm.models:
        reader = _reader(job, arm, facts)
        passes += _passes(reader, latency["batch_size"], 1.0, latency["new_tokens"])
    return passes.times(2 * (latency["repeats"] + latency["warmup"]))


def _passes(shape: Shape, rows: int, depth: float, written: int) -> Work:
    """Texts read up to a depth, and tokens written behind them, launched block by block."""
    return Work(
        frozen_flop=2 * shape.parameters * rows * (TEXT_TOKENS * depth + written),
        moved_bytes=2 * shape.parameters * (depth + written),
        blocks=shape.layers * (depth + written),
    )


def _reader(job: Job, arm: ArmDeclaration, facts: Facts) -> Shape:
    """The frozen model that answers."""
    return facts.shapes[job.names["receiver" if "receiver" in arm.models else "sender"]]


def _sender_shape(job: Job, facts: Facts) -> Shape:
    return facts.shapes[job.names["sender"]]


def _train_rows(job: Job, facts: Facts) -> int:
    rows = facts.train_rows.get(job.inputs["data"], DEFAULT_ROWS)
    samples = job.settings.get("samples", {})
    return min(rows, samples.get("max") or samples.get("exactly") or rows)


def _rows_of(output: str, job: Job, facts: Facts) -> int:
    """Rows of one output of the sender's: a block of train, all of it, or another split."""
    data = job.inputs["data"]
    if output == "train-all":
        return facts.train_rows.get(data, DEFAULT_ROWS)
    if output.startswith("train"):
        return BLOCK_ROWS
    return facts.test_rows.get(data, DEFAULT_ROWS) if output == "test" else VALIDATION_ROWS


def _read_tokens(job: Job, arm: ArmDeclaration, facts: Facts) -> float:
    """Tokens that the reader is run on for a row: what its query has in common is read once."""
    parsed = arm.settings.model_validate(job.settings["arm_settings"])
    tokens: float = arm.message_tokens(parsed)
    task = job.settings["task"]
    reads_text = getattr(parsed, "text", True) and not (arm.soft and tokens)
    if "max_prompt_tokens" in task and reads_text:
        tokens += _prompt_tokens(task["max_prompt_tokens"], job, facts)
    answer: float = task.get("max_new_tokens", ANSWER_TOKENS) if job.kind == "fit" else 0.0
    return max(tokens, 1.0) + answer


def _at_once(job: Job, arm: ArmDeclaration, facts: Facts, most: int) -> int:
    """Rows of a batch that is scored."""
    chars = facts.context_chars.get(job.inputs["data"], TEXT_TOKENS * CHARS_PER_TOKEN)
    rows: int = job.settings.get("batch_size", ROWS_AT_ONCE)
    return min(rows, max(1, most // chars))


def _prompt_tokens(most: int, job: Job, facts: Facts) -> float:
    """Tokens of a prompt around a text: guessed from where texts are cut, or from the limit."""
    chars = facts.context_chars.get(job.inputs["data"])
    if chars is not None:
        return min(most, chars / CHARS_PER_TOKEN)
    return min(most, TEXT_TOKENS) if most <= 4 * TEXT_TOKENS else most / 2
