"""What a spec says of the paper: its tables, figures, claims and template."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from lwspec.engine.fields import FigurePath, Frozen, Name, Names, TablePath, distinct, file_stem


def _one_or_several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


MetricNames = Annotated[
    tuple[str, ...],
    Field(strict=False, min_length=1),
    BeforeValidator(_one_or_several, json_schema_input_type=str | tuple[str, ...]),
    AfterValidator(distinct),
]

Words = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False), AfterValidator(distinct)
]

Test = Literal["auto", "mcnemar", "bootstrap", "paired t", "seeds and items"]


class Compare(Frozen):
    """Which row of a table the others are tested against, and how."""

    to: str
    """The row, as the table shows it."""
    test: Test = "auto"
    """Auto: over seeds and items; McNemar or a bootstrap over items where both arms run once."""


class Table(Frozen):
    """A table of the paper: a row for each arm and sweep point, a column for each task."""

    name: Name
    """By which claims and the template ask for it."""
    experiments: Names
    """Whose cells it shows."""
    metric: MetricNames = ("accuracy",)
    """One metric, or several, each with columns of its own."""
    arms: Names | None = None
    """Only these, in this order; all by default."""
    tasks: Names | None = None
    """Only these, in this order; all by default."""
    rows: Literal["arms", "tasks"] = "arms"
    """What the rows are; the other makes the columns."""
    groups: bool = False
    """Whether rows stand under the headings of their experiments' groups."""
    compare: Compare | None = None
    """Given, every row is tested against one, and bold where it is better beyond chance."""
    unequal: Annotated[str, Field(min_length=1)] | None = None
    """Why its arms are compared although they were not trained, tested or tuned alike; printed
    below it with what differs (`lwspec.engine.spec.fairness`)."""
    caption: str = ""
    """What stands above what is said of every table by itself."""
    path: TablePath | None = None
    """Where the artefact is written, below the paper's folder; tables/<name>.tex by default."""

    @property
    def files(self) -> tuple[str, ...]:
        """What is written: LaTeX, then beside it CSV and its tests."""
        tex = self.path or f"tables/{file_stem(self.name)}.tex"
        stem = tex.removesuffix(".tex")
        return tex, f"{stem}.csv", f"{stem}.tests.csv"


class Figure(Frozen):
    """A figure of the paper."""

    name: Name
    """By which the template asks for it."""
    kind: Literal["learning_curves", "sweep", "latency", "bytes", "arms"]
    """Metrics after each epoch; one metric over a swept setting; time by component; one metric
    against the bytes of a message; arms beside each other on each task."""
    metric: str = "accuracy"
    """Of every kind but learning curves and latency."""
    experiments: Names
    """Whose cells it shows."""
    caption: str = ""
    """What it shows, in words."""
    path: FigurePath | None = None
    """Where the artefact is written, below the paper's folder; figures/<name>.pdf by default."""

    @property
    def files(self) -> tuple[str, ...]:
        """What is written."""
        return (self.path or f"figures/{file_stem(self.name)}.pdf",)


CLAIM_FIELDS = ("left", "right", "gap")
"""What a claim's sentences may name in braces: its numbers, one for each column."""


class Claim(Frozen):
    """A sentence that the records must bear out, and what the paper says where they do not.

    `left` and `right` are entries of tables, as `TABLE:ROW/COLUMN`; `TABLE:ROW/*` stands for every
    column of the table's first metric, and then the claim must hold in each. `right` may be a
    number in the metric's unit.
    """

    name: Name
    """By which the template asks for it: CLAIM_NAME."""
    says: str
    """What the paper says where the records support it; it may name {left}, {right} and {gap}."""
    otherwise: str
    """What the paper says where the records do not support it."""
    untested: str = ""
    """What it says where runs are missing, without numbers; by default that the claim was not
    tested."""
    left: str
    """The entry that the sentence is about."""
    right: str | float
    """The entry, or the number, that it is held against."""
    relation: Literal["above", "below", "within", "times"] = "above"
    """Left lies above or below right by more than `margin`, within `margin` of it, or is at least
    `factor` times it."""
    margin: Annotated[float, Field(ge=0)] = 0.0
    """In the metric's unit."""
    factor: Annotated[float, Field(gt=0)] = 1.0
    """Of relation = "times"."""
    words: Words = ()
    """Words that the paper may use only where the claim is supported."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.relation == "within" and self.margin == 0.0:
            raise ValueError('relation = "within" needs a margin, in the metric\'s unit')
        if self.relation == "times" and self.margin:
            raise ValueError('relation = "times" has a factor and no margin')
        if self.relation != "times" and self.factor != 1.0:
            raise ValueError('a factor belongs to relation = "times"')
        return self


class Paper(Frozen):
    """The paper's LaTeX template, by path from the spec's folder."""

    template: str
    """A LaTeX file, relative to the spec."""
    title: str
    r"""What \VAR{title} stands for."""
    numbers: dict[str, str] = {}
    """Names of its own for entries of tables: LATENT_WIRE_SST2_ACC = "main:bridge/sst2"."""
    never: Words = ()
    """Words that the paper must not use at all."""
