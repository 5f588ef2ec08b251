"""The spec: what a person writes in TOML, as frozen pydantic models.

Unknown keys are errors and nothing is coerced. What an arm may be set to is declared by the arm
(`lwspec.engine.arm`), so an arm's table inside an experiment is checked in `load`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from lwspec.engine.fields import (
    Epochs,
    Frozen,
    Name,
    Names,
    Positive,
    Revision,
    Rows,
    Seeds,
    distinct,
    file_stem,
)
from lwspec.engine.spec.artefacts import Claim, Figure, Paper, Table
from lwspec.engine.spec.cluster import Cluster
from lwspec.engine.spec.task import Task

_NOT_EVERYWHERE = re.compile(r"[^A-Za-z0-9_.+-]+")
"""What some LaTeX, or a command line, does not take in the name of a file."""


Times = Annotated[int, Field(ge=0)]


class Retries(Frozen):
    """How often in a row a job is tried again by itself, by how its attempts ended.

    What was asked to stop (a time limit, preemption, Ctrl-C) goes on from its checkpoint as often
    as it takes, within its allowance. Wrong data, a wrong model or a spent allowance are never
    tried again by themselves.
    """

    killed: Times = 3
    """From outside: a node that failed, `kill -9`, the host's memory, whether SLURM ends the
    process or Python is refused more."""
    network: Times = 2
    """A server that a job could not reach."""
    out_of_memory: Times = 0
    """The GPU's; rows that do not fit at once were halved before."""
    disk: Times = 0
    """No room, or a file system that failed."""
    code: Times = 0
    """An exception that nobody foresaw."""


class Budget(Frozen):
    """What the plan may cost over its life, retries included."""

    gpu_hours: Annotated[float, Field(gt=0)]
    """The cap."""
    gpu: Literal["h100", "h200", "a100", "cpu"]
    """What an hour is counted in: one GPU of this kind, or one process of a CPU."""
    gpus: Positive = 1
    """How many run at once, for the wall-clock preview."""


class Resources(Frozen):
    """What one job gets. The threads are part of a job's identity: they can change its numbers."""

    gpus: Annotated[int, Field(ge=0)] = 1
    """Of one job; 0 runs it on the CPU."""
    threads: Positive = 1
    """Of one job, on the CPU."""
    side_by_side: Positive = 1
    """How many fits that differ in seed alone are trained in one process, at most: they share the
    frozen models and the receiver's passes, and each has weights and an optimiser of its own. Sums
    in a pass of other rows round otherwise, so that numbers agree with those of a fit alone to a
    few digits and not to the bit."""
    compile: bool = False
    """Whether the frozen models' blocks are compiled, and on a GPU the passes of training and of
    tokens that are written recorded as CUDA graphs. It takes some tens of seconds a process, and
    rounds sums otherwise too, on a GPU also those of what is trained, in TF32."""

    states_gb: Annotated[float, Field(ge=0)] | None = None
    """How many GB of the sender's states the run folders may hold. Beyond them, and where the disk
    is short, jobs have the sender make what they read again, each time that they read it: rounded
    as its batch then is, and not in the price. What found no room stays so until the folder of its
    job is deleted."""

    @model_validator(mode="after")
    def _one_gpu_where_compiled(self) -> Self:
        if self.compile and self.gpus > 1:
            raise ValueError("compiled passes run on one GPU: set gpus to 1, or compile to false")
        return self


class Model(Frozen):
    """A frozen causal language model: a hub id or local folder, or one of the built-in toys."""

    path: str | None = None
    """A folder relative to the spec, with a config.json, or a hub id such as org/name."""
    toy: Literal["llama", "mistral"] | None = None
    """A built-in model, trained when it is first used."""
    revision: Revision | None = None
    """Of a hub model; its main branch by default."""
    remote_code: bool = False
    """Whether Python code that comes with the model may run. A hub model then needs its `revision`
    as a commit's whole hash, and in either case the code must be the model's own: code that it
    borrows from another repository is refused."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """In which its weights are loaded."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.toy is None):
            raise ValueError("a model has either a path or a toy")
        if self.remote_code and self.toy is not None:
            raise ValueError("a toy has no code of its own: remote_code belongs to a path")
        return self


class AtMost(Frozen):
    """As many as there are, up to a number; the number used is recorded."""

    max: Rows
    """The most."""


class Train(Frozen):
    """How a trainable arm is trained; the arm's own settings stand in the arm's own table."""

    samples: Rows | AtMost | None = None
    """Rows of the train split: this many or an error, at most this many, or all."""
    epochs: Epochs = 6
    """Passes over the rows."""
    batch_size: Positive = 16
    """Rows a step."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Of AdamW, after the warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of AdamW."""
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    """To which the norm of the gradients is cut."""
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Over which the rate grows from nothing."""
    schedule: Literal["constant", "cosine"] = "constant"
    """What the rate does after the warm-up: stay, or fall to nothing along a cosine."""
    supervised_tokens: Positive | None = None
    """Only the first tokens of an answer are learnt, of this number; all by default."""
    first_token_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of an extra cross-entropy on the answer's first token."""
    distillation: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the divergence from what the receiver says after reading the text itself."""
    distillation_temperature: Annotated[float, Field(gt=0)] = 2.0
    """By which both sides' logits are divided."""
    checkpoint: Literal["last", "best"] = "last"
    """Which epoch is tested: the last, or the best on validation."""


class Evaluate(Frozen):
    """How test items are scored."""

    rows: Rows | None = None
    """Fewer test items than there are, drawn by the task's sample_seed; said in the caption."""
    batch_size: Positive = 32
    """Test items that are run at once."""
    precision: Literal["float32", "bfloat16", "int8", "int4"] = "bfloat16"
    """What a soft message is serialised as between sender and receiver; whole numbers with a scale
    in bfloat16 for each vector."""
    max_bytes: Positive | None = None
    """What a message may take: arms whose messages could be longer are refused. Changes none."""
    bits: Positive | None = None
    """Given, private arms' messages are also measured by how many bits they save the receiver in
    reading the context itself, of its first tokens, of this number: `context_bits`."""


class Latency(Frozen):
    """How an experiment's cells are timed, instead of tested."""

    batch_size: Positive = 1
    """Test items that are timed as one batch."""
    new_tokens: Positive = 10
    """The receiver writes exactly this many tokens in every arm that has one."""
    repeats: Annotated[int, Field(ge=2)] = 30
    """Batches that are timed."""
    warmup: Annotated[int, Field(ge=0)] = 5
    """Batches that are run first and not counted."""
    trained: bool = True
    """False times a trainable arm as it is initialised: tables mark it as untrained."""


def _kind_of_train_on(value: Any) -> str:
    return "others" if isinstance(value, str) else "tasks"


TrainOn = Annotated[
    Annotated[Names, Tag("tasks")] | Annotated[Literal["others"], Tag("others")],
    Discriminator(_kind_of_train_on),
]
"""Names of tasks, or all others; told apart first, so that a mistake is explained as one of one."""


class Experiment(Frozen):
    """Cells to fill: arms x tasks x seeds x sweep points."""

    name: Name
    """By which tables and figures ask for it."""
    arms: Names
    """Ways for the receiver to get what the sender read."""
    tasks: Names
    """On which its arms are tested."""
    seeds: Seeds
    """Of initialisation and data order; an arm that no seed can change runs once."""
    sender: Name
    """The model that reads the context."""
    receiver: Name
    """The model that answers."""
    train: Train = Train()
    """How its arms are trained."""
    evaluate: Evaluate = Evaluate()
    """How its arms are tested."""
    train_on: TrainOn | None = None
    """Whose rows trained arms learn from: one fit over those of all these tasks, each up to
    `train.samples`, or for each task one over all others of `tasks`; by default the task's own.
    Arms that are not trained run as they always do."""
    settings: dict[str, dict[str, Any]] = {}
    """Each arm's own table, by arm name; in TOML it stands directly in the experiment."""
    sweep: dict[str, Annotated[tuple[Any, ...], Field(strict=False, min_length=2)]] = {}
    """Settings to try, each a quoted key with a list: {"bridge.latents" = [4, 8]}. Several keys
    give every combination."""
    controls: Annotated[tuple[Name, ...], Field(strict=False), AfterValidator(distinct)] = ()
    """Cells beside each arm's own, in which one thing is changed (see
    `lwspec/engine/spec/controls.py`). An arm of the regime "reference" hands nothing over and has
    its own cell alone."""
    latency: Latency | None = None
    """Given, the cells are timed on test rows, and not scored."""
    group: Name | None = None
    """The heading of the plan's table under which it is listed and summed up."""
    gpu_hours: Annotated[float, Field(gt=0)] | None = None
    """What the plan's authors or reviewers allotted: shown beside the modelled price."""
    plan_only: bool = False
    """Priced in a line of its own, outside the total, and run only once this is deleted."""


class Statistics(Frozen):
    """What is assumed, before there are records, of the spread of a score between 0 and 1."""

    seed_sd: Annotated[float, Field(gt=0)] = 0.033
    """Between seeds."""
    item_sd: Annotated[float, Field(gt=0)] = 0.5
    """Of the difference between two arms from item to item."""


class Spec(Frozen):
    """One paper's experiments: models, tasks, arms, seeds, sweeps, budget, tables and figures."""

    schema_: Literal[1] = Field(alias="schema")
    """The version of this format."""
    name: Name
    """Of budget and history: specs of one name share both."""
    budget: Budget
    """What all of it may cost."""
    resources: Resources = Resources()
    """What one job gets."""
    retries: Retries = Retries()
    """What is tried again by itself."""
    cluster: dict[Name, Cluster] = {}
    """SLURM clusters to submit to, by name; a user's own file may hold more."""
    arm_files: Annotated[tuple[str, ...], Field(strict=False), AfterValidator(distinct)] = ()
    """Python files, relative to the spec, that each define an arm of one's own (docs/arms.md)."""
    models: dict[Name, Model]
    """Language models, by the names that experiments use."""
    tasks: dict[Name, Task]
    """Data sets with their prompts and answers, by the names that experiments use."""
    experiment: Annotated[tuple[Experiment, ...], Field(strict=False, min_length=1)]
    """Blocks of cells to fill."""
    table: Annotated[tuple[Table, ...], Field(strict=False)] = ()
    """Tables of the paper."""
    figure: Annotated[tuple[Figure, ...], Field(strict=False)] = ()
    """Figures of the paper."""
    claim: Annotated[tuple[Claim, ...], Field(strict=False)] = ()
    """Sentences of the paper that the records must bear out."""
    statistics: Statistics = Statistics()
    """What is assumed of the spread of scores before there are any."""
    paper: Paper | None = None
    """The template that is filled."""

    @property
    def stem(self) -> str:
        """The name of the paper's own files, which every LaTeX and command line takes."""
        return file_stem(self.name, _NOT_EVERYWHERE).strip("-") or "paper"
