"""The spec: what a person writes in TOML, as frozen pydantic models.

Unknown keys are errors and nothing is coerced. What an arm may be set to is declared by the arm
(`lwspec.engine.arm`), so an arm's table inside an experiment is checked in `load`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

CONFIG = ConfigDict(
    frozen=True, extra="forbid", strict=True, populate_by_name=True, allow_inf_nan=False
)

LOCAL_LOADERS = ("json", "csv", "parquet")
"""Paths of `data` that name a kind of file instead of a hub set."""


class Frozen(BaseModel):
    """A part of the spec: immutable, strict, and closed to unknown keys."""

    model_config = CONFIG


def _safe_name(name: str) -> str:
    if "/" in name or any(ord(character) < 32 or character == "\x7f" for character in name):
        raise ValueError("a name holds no '/' and no control character: it names files")
    if not name or len(name) > 64 or name[0] in ".-" or name != name.strip():
        raise ValueError("a name has 1 to 64 characters and starts with neither '.' nor '-'")
    return name


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"{value!r} is given twice")
    return values


def _holds_context(prompt: str) -> str:
    if "{context}" not in prompt:
        raise ValueError("holds no {context}: the model would not see the text")
    return prompt


def _holds_column(template: str) -> str:
    if not re.search(r"\{\w+\}", template):
        raise ValueError("holds no {column}: every row would read the same")
    return template


def _relative(path: str) -> str:
    if not path.endswith((".tex", ".pdf")) or path.startswith("/") or ".." in path.split("/"):
        raise ValueError("a path below the paper's folder that ends in .tex or .pdf")
    return path


def _holds_no_context(query: str) -> str:
    if "{context}" in query:
        raise ValueError("holds {context}: the receiver would see what it must not")
    return query


def _holds_label(answer: str) -> str:
    if "{label}" not in answer:
        raise ValueError("holds no {label}")
    return answer


def _holds_target(answer: str) -> str:
    if "{target}" not in answer:
        raise ValueError("holds no {target}")
    return answer


Prompt = Annotated[str, AfterValidator(_holds_context)]
Template = Annotated[str, AfterValidator(_holds_column)]
ArtefactPath = Annotated[str, AfterValidator(_relative)]
Query = Annotated[str, AfterValidator(_holds_no_context)]
LabelAnswer = Annotated[str, AfterValidator(_holds_label)]
TargetAnswer = Annotated[str, AfterValidator(_holds_target)]
Name = Annotated[str, AfterValidator(_safe_name)]
Names = Annotated[tuple[Name, ...], Field(strict=False, min_length=1), AfterValidator(_distinct)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seeds = Annotated[tuple[Seed, ...], Field(strict=False, min_length=1), AfterValidator(_distinct)]
Positive = Annotated[int, Field(gt=0)]


class Budget(Frozen):
    """What the plan may cost over its life, retries included."""

    gpu_hours: Annotated[float, Field(gt=0)]
    gpu: Literal["h100", "h200", "a100", "cpu"]
    """What an hour is counted in: one GPU of this kind, or one process of a CPU."""
    gpus: Positive = 1
    """How many run at once, for the wall-clock preview."""


class Resources(Frozen):
    """What one job gets. The threads are part of a job's identity: they can change its numbers."""

    gpus: Annotated[int, Field(ge=0)] = 1
    threads: Positive = 1


class Model(Frozen):
    """A frozen causal language model: a hub id or local folder, or one of the built-in toys."""

    path: str | None = None
    toy: Literal["llama", "mistral"] | None = None
    revision: str | None = None
    """Of a hub model; its main branch by default."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.toy is None):
            raise ValueError("a model has either a path or a toy")
        return self


class Data(Frozen):
    """Where rows come from: the arguments of `datasets.load_dataset`, or a built-in toy task."""

    path: str | None = None
    toy: Literal["sentiment", "topic"] | None = None
    name: str | None = None
    revision: str | None = None
    data_files: dict[str, str] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.toy is None):
            raise ValueError("data has either a path or a toy")
        files = self.path in LOCAL_LOADERS
        if files and not self.data_files:
            raise ValueError(f"data of path {self.path!r} need data_files")
        if not files and self.data_files:
            raise ValueError(f"data_files belong to a path of {', '.join(LOCAL_LOADERS)}")
        if (files or self.toy) and (self.name or self.revision):
            raise ValueError("name and revision belong to a hub data set")
        return self


class Split(Frozen):
    """Rows of one source split: all that no other split takes, or a stated number."""

    source: str = Field(alias="from")
    rows: Positive | None = None


def _split_from_text(value: Any) -> Any:
    return {"from": value} if isinstance(value, str) else value


class Splits(Frozen):
    """Train, validation and test: disjoint by construction, checked by content when read."""

    train: Split
    validation: Split
    test: Split

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: _split_from_text(split) for key, split in value.items()}
        return value

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        whole: dict[str, str] = {}
        for name, split in named.items():
            if split.rows is not None:
                continue
            if split.source in whole:
                raise ValueError(
                    f"{whole[split.source]} and {name} both take all of {split.source!r}, "
                    f"so they overlap: carve one out, {name} = "
                    f'{{ from = "{split.source}", rows = 500 }}'
                )
            whole[split.source] = name
        return self


class TaskBase(Frozen):
    """What every kind of task states: a data set, what the sender reads, what the receiver sees."""

    data: Data
    splits: Splits
    context: Template
    """Template over the columns of a row: what only the sender sees."""
    sender_prompt: Prompt
    receiver_prompt: Prompt
    """For arms that hand over text."""
    query: Query
    """What the receiver sees beside a message; it comes in after the message was encoded."""
    max_prompt_tokens: Positive = 256
    """A prompt is cut to its last tokens, of this number, after the beginning-of-text token."""
    sample_seed: Seed = 0
    """Which rows are drawn and how they are ordered on disk, whatever an experiment's seeds are."""


class Classification(TaskBase):
    """The answer is one of a few labels, each scored in full by its log-probability."""

    kind: Literal["classification"]
    label: str
    """The column that holds the label, as an index into `labels` or as one of them."""
    labels: Annotated[tuple[str, ...], Field(strict=False, min_length=2), AfterValidator(_distinct)]
    answer: LabelAnswer = " {label}"


class Generation(TaskBase):
    """The answer is free text, written greedily and compared with the row's target."""

    kind: Literal["generation"]
    target: Template
    """Template over the columns of a row: what should be written."""
    answer: TargetAnswer = " {target}"
    max_new_tokens: Positive = 32
    """What is written, and what is learnt of a target, is cut to this many tokens."""


Task = Annotated[Classification | Generation, Field(discriminator="kind")]


class AtMost(Frozen):
    """As many as there are, up to a number; the number used is recorded."""

    max: Positive


class Train(Frozen):
    """How a trainable arm is trained; the arm's own settings stand in the arm's own table."""

    samples: Positive | AtMost | None = None
    """Rows of the train split: this many or an error, at most this many, or all."""
    epochs: Positive = 6
    batch_size: Positive = 16
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    schedule: Literal["constant", "cosine"] = "constant"
    checkpoint: Literal["last", "best"] = "last"
    """Which epoch is tested: the last, or the best on validation."""


class Evaluate(Frozen):
    """How test items are scored."""

    rows: Positive | None = None
    """Fewer test items than there are, drawn by the task's sample_seed; said in the caption."""
    batch_size: Positive = 32
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """What a soft message is serialised as between sender and receiver."""


class Experiment(Frozen):
    """Cells to fill: arms x tasks x seeds x sweep points."""

    name: Name
    arms: Names
    tasks: Names
    seeds: Seeds
    sender: Name
    receiver: Name
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    settings: dict[str, dict[str, Any]] = {}
    """Each arm's own table, by arm name; in TOML it stands directly in the experiment."""
    sweep: dict[str, Annotated[tuple[Any, ...], Field(strict=False, min_length=2)]] = {}
    gpu_hours: Annotated[float, Field(gt=0)] | None = None
    """A declared price for the whole experiment, used until something was measured."""


Metric = Literal[
    "accuracy",
    "macro_f1",
    "strict_accuracy",
    "unparsed_rate",
    "exact_match",
    "token_f1",
    "rouge1",
    "rouge2",
    "rougeL",
    "message_bytes",
]


class Table(Frozen):
    """A table of the paper: one number a cell, from the experiments named."""

    name: Name
    experiments: Names
    metric: Metric = "accuracy"
    caption: str = ""
    path: ArtefactPath | None = None
    """Where the artefact is written, below the paper's folder; tables/<name>.tex by default."""


class Figure(Frozen):
    """A figure of the paper."""

    name: Name
    kind: Literal["learning_curves"]
    experiments: Names
    caption: str = ""
    path: ArtefactPath | None = None
    """Where the artefact is written, below the paper's folder; figures/<name>.pdf by default."""


class Paper(Frozen):
    """The paper's LaTeX template, by path from the spec's folder."""

    template: str
    title: str


class Spec(Frozen):
    """One paper's experiments: models, tasks, arms, seeds, sweeps, budget, tables and figures."""

    schema_: Literal[1] = Field(alias="schema")
    name: Name
    budget: Budget
    resources: Resources = Resources()
    models: dict[Name, Model]
    tasks: dict[Name, Task]
    experiment: Annotated[tuple[Experiment, ...], Field(strict=False, min_length=1)]
    table: Annotated[tuple[Table, ...], Field(strict=False)] = ()
    figure: Annotated[tuple[Figure, ...], Field(strict=False)] = ()
    paper: Paper | None = None
