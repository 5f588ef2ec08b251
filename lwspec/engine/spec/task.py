"""A task of a spec: its data, splits, prompts and answers."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from lwspec.engine.fields import (
    Frozen,
    LabelAnswer,
    Positive,
    Prompt,
    Query,
    Revision,
    Rows,
    Seed,
    TargetAnswer,
    Template,
    distinct,
    placeholders,
)

LOCAL_LOADERS = ("json", "csv", "parquet")
"""Paths of `data` that name a kind of file instead of a hub set."""


class Data(Frozen):
    """Where rows come from: the arguments of `datasets.load_dataset`, or a built-in toy task."""

    path: str | None = None
    """A hub set, org/name, or the kind of files: json, csv or parquet."""
    toy: Literal["sentiment", "topic"] | None = None
    """A built-in task."""
    name: str | None = None
    """Which subset of a hub set."""
    revision: Revision | None = None
    """Of a hub set: a branch, a tag or a commit."""
    data_files: dict[str, str] | None = None
    """Split to file, relative to the spec."""
    adapter: Literal["squad", "hotpotqa", "arc", "gsm8k"] | None = None
    """Makes flat columns of a well-known set's nested rows: `lwspec/kernels/data/adapters.py`."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.toy is None):
            raise ValueError("data has either a path or a toy")
        files = self.path in LOCAL_LOADERS
        if files and not self.data_files:
            raise ValueError(f"data of path {self.path!r} need data_files")
        if not files and self.data_files:
            raise ValueError(f"data_files belong to a path of {', '.join(LOCAL_LOADERS)}")
        if self.toy and self.adapter:
            raise ValueError("a toy task has flat columns: it takes no adapter")
        if (files or self.toy) and (self.name or self.revision):
            raise ValueError("name and revision belong to a hub data set")
        return self


class Split(Frozen):
    """Rows of one source split: all that no other split takes, or a stated number."""

    source: str = Field(alias="from")
    """The data's split of which rows are taken."""
    rows: Rows | None = None
    """How many, drawn at random by the task's sample_seed; left out, all that no other split
    takes."""


def _split_from_text(value: Any) -> Any:
    return {"from": value} if isinstance(value, str) else value


ShortSplit = Annotated[Split, BeforeValidator(_split_from_text, json_schema_input_type=str | Split)]
"""A split, or the name of the source split of which it takes all."""


class Splits(Frozen):
    """Train, validation and test: disjoint by construction, checked by content when read."""

    train: ShortSplit
    """What is learnt from."""
    validation: ShortSplit
    """By which the best epoch is chosen, and what learning curves show."""
    test: ShortSplit
    """What is scored."""

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


def _has_one_group(pattern: str) -> str:
    import regex  # not for every spec

    try:
        groups = regex.compile(pattern).groups
    except (regex.error, RecursionError, OverflowError) as error:
        raise ValueError(f"no regular expression: {error}") from None
    if groups != 1:
        raise ValueError(f"has {groups} groups: exactly one must hold the answer")
    return pattern


class TaskBase(Frozen):
    """What every kind of task states: a data set, what the sender reads, what the receiver sees."""

    data: Data
    """Where rows come from."""
    splits: Splits
    """Which rows are learnt from, validated on and tested."""
    context: Template
    """Template over the columns of a row: what only the sender sees."""
    max_context_chars: Positive | None = None
    """A context is cut to its first characters, of this number, for every arm alike."""
    sender_prompt: Prompt
    """What the sender reads, with {context} where the text belongs."""
    receiver_prompt: Prompt
    """For arms that hand over text."""
    query: Query
    """What the receiver sees beside a message; it comes in after the message was encoded.

    Like the prompts it may name columns of the row, but not all those that the context is made of.
    """
    max_prompt_tokens: Positive = 256
    """A prompt is cut to its last tokens, of this number, after the beginning-of-text token."""
    sample_seed: Seed = 0
    """Which rows are drawn and how they are ordered on disk, whatever an experiment's seeds are."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that prompts and query name beside the context."""
        prompts = (self.sender_prompt, self.receiver_prompt, self.query)
        return tuple(sorted({c for text in prompts for c in placeholders(text)} - {"context"}))

    @abstractmethod
    def answer_columns(self) -> tuple[str, ...]:
        """The columns that hold what should be answered."""

    @model_validator(mode="after")
    def _nothing_is_given_away(self) -> Self:
        for key in ("query", "receiver_prompt"):
            if set(placeholders(self.context)) <= set(placeholders(getattr(self, key))):
                raise ValueError(
                    f"{key} names every column of the context: the receiver would see what only "
                    "the sender may; write {context} where the text belongs"
                )
        given_away = set(self.columns) & set(self.answer_columns())
        if given_away:
            raise ValueError(f"a prompt names the column of the answer, {{{min(given_away)}}}")
        return self


class Classification(TaskBase):
    """The answer is one of a few labels, each scored in full by its log-probability."""

    kind: Literal["classification"]
    """"classification"."""
    label: str
    """The column that holds the label, as an index into `labels` or as one of them."""
    labels: Annotated[tuple[str, ...], Field(strict=False, min_length=2), AfterValidator(distinct)]
    """What may be answered, in the order of the data's indices."""
    answer: LabelAnswer = " {label}"
    """How a label is written behind the prompt."""

    def answer_columns(self) -> tuple[str, ...]:
        """The label's column."""
        return (self.label,)


class Generation(TaskBase):
    """The answer is free text, written greedily and compared with the row's target."""

    kind: Literal["generation"]
    """"generation"."""
    target: Template
    """Template over the columns of a row: what should be written."""
    accepted: str | None = None
    """A column that lists every right answer, of which the best counts; else the target alone."""
    answer_pattern: Annotated[str, AfterValidator(_has_one_group)] | None = None
    """A regular expression whose one group is the answer in a longer text, such as a number."""
    answer: TargetAnswer = " {target}"
    """How a target is written behind the prompt."""
    max_new_tokens: Positive = 32
    """What is written, and what is learnt of a target, is cut to this many tokens."""

    def answer_columns(self) -> tuple[str, ...]:
        """The columns of the target, and the one that lists what is accepted."""
        listed = () if self.accepted is None else (self.accepted,)
        return (*placeholders(self.target), *listed)


Task = Annotated[Classification | Generation, Field(discriminator="kind")]
