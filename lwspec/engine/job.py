"""A job: one step of work behind cells, named by everything that can change its numbers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

IDENTITY_VERSION = 1
"""Raised when the meaning of an identity changes: every job then gets another id."""

BLOCK_ROWS = 1000
"""Sender states are made in blocks of this many training rows, so that more rows extend them."""

ROWS_AT_ONCE = 256
"""Rows that go through a frozen model together without gradients, at most."""
READ_CHARS = 16_384
"""Of the texts that the sender reads together, each counted as long as the longest."""
ANSWERED_CHARS = 131_072
"""Of the texts that are answered together: little is kept of each token, and what is written token
by token costs the same for one row as for many."""

OTHER_TASKS = "other_tasks"
"""The setting of a fit over several tasks that holds what differs in those after the first."""

_COMMIT = re.compile(r"[0-9a-f]{40}")

Value = TypeVar("Value")

Kind = Literal["prepare", "fit", "evaluate", "latency"]


@dataclass(frozen=True)
class Job:
    """One step of a kind, with the inputs it reads and the outputs it owes."""

    id: str
    kind: Kind
    step: str
    """What is prepared (toy, data, states, pooled, text), or the arm that is fitted or measured."""
    settings: Mapping[str, Any]
    """The resolved settings that can change its numbers; JSON."""
    inputs: Mapping[str, str]
    """Role to the id of the job that makes it."""
    outputs: tuple[str, ...]
    """What it owes, in order; a fit owes one per epoch, so more epochs extend it."""
    label: str
    """For people: not part of the identity."""
    reads: Mapping[str, tuple[str, ...]]
    """Role to the outputs of that input which it reads: it can start once these are taken."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Where weights and data lie on this machine: evidence, not part of the identity."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What the spec calls its task and models: for people, not part of the identity."""
    gpus: int = 0
    threads: int = 1
    shares: bool = False
    """Whether it may share the receiver's passes with jobs that differ from it in seed alone."""
    compiled: bool = False
    """Whether the frozen models are compiled for it: sums may round otherwise."""
    states_bytes: int | None = None
    """How many bytes of the sender's states the run folders may hold; None where all that fits."""
    charge: int = 1
    """How many of the budget's units it holds while it runs: none where only GPUs are counted."""

    @property
    def weight(self) -> int:
        """How fast its allowance runs down: one that costs nothing is allowed seconds."""
        return max(1, self.charge)

    @property
    def parts(self) -> tuple[Job, ...]:
        """Of a fit over the rows of several tasks, for each what a fit over it alone would read.

        The parts are no jobs: nothing runs them, and each has the whole's id.
        """
        settings = {key: value for key, value in self.settings.items() if key != OTHER_TASKS}
        return tuple(
            replace(
                self,
                settings={**settings, **changed},
                inputs=_of_part(self.inputs, number),
                reads=_of_part(self.reads, number),
                names=_of_part(self.names, number),
            )
            for number, changed in enumerate([{}, *self.settings.get(OTHER_TASKS, ())])
        )

    @property
    def alike(self) -> str:
        """What jobs have in common that may run side by side: all but their seed."""
        if not self.shares:
            return self.id
        others = {key: value for key, value in self.settings.items() if key != "seed"}
        return canonical([self.step, others, self.inputs, self.gpus, self.compiled])

    @property
    def remote_code(self) -> dict[str, str]:
        """The models that may run code of their own, by role: a hub's commit, a folder's hash."""
        alone = self.settings.get("model")
        models = self.settings.get("models", {}) if alone is None else {"sender": alone}
        return {
            role: str(model.get("revision", model.get("weights")))
            for role, model in models.items()
            if model.get("remote_code")
        }

    @property
    def alone(self) -> bool:
        """Whether nothing else may run beside it: a stopwatch would see it."""
        return self.kind == "latency"

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back."""
        return {name: getattr(self, name) for name in Job.__dataclass_fields__}

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> Job:
        """A job from what `to_json` wrote, other keys ignored."""
        names = Job.__dataclass_fields__
        known = {key: value for key, value in raw.items() if key in names}
        reads = {role: tuple(outputs) for role, outputs in raw["reads"].items()}
        return Job(**{**known, "outputs": tuple(raw["outputs"]), "reads": reads})


def role_of(role: str, part: int) -> str:
    """What an input is called in a fit over several tasks, of which the first is as if alone."""
    return f"{role}:{part + 1}" if part else role


def unpinned(jobs: Iterable[Job]) -> list[str]:
    """The models and data sets that jobs take from a hub at a revision that is no commit."""
    read = [
        source
        for job in jobs
        for source in (
            *job.settings.get("models", {}).values(),
            job.settings.get("model", {}),
            job.settings.get("data", {}),
        )
    ]
    return sorted(
        {
            source["hub"]
            for source in read
            if "hub" in source and not _COMMIT.fullmatch(source["revision"] or "")
        }
    )


def _of_part(by_role: Mapping[str, Value], part: int) -> dict[str, Value]:
    """What one part reads, under the roles of a fit over it alone; models are everyone's."""
    roles = [role for role in by_role if ":" not in role]
    return {role: by_role.get(role_of(role, part), by_role[role]) for role in roles}


def canonical(value: Any) -> str:
    """JSON with one spelling for one value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def identity(kind: Kind, step: str, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """A job's id: its kind and 80 bits of a versioned hash over settings and inputs' ids."""
    text = canonical([IDENTITY_VERSION, kind, step, settings, inputs])
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"


def price_key(kind: str, step: str, *, beside: bool) -> str:
    """Jobs with one key cost alike for each modelled second: the history is kept by it."""
    return f"{kind} {step}{' side by side' if beside else ''}"
