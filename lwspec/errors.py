"""Every error that a user can meet.

    LwspecError
    ├── SpecError            the spec says something impossible        exit 2
    ├── UsageError           the command line asks the impossible      exit 2
    ├── BudgetError          the plan costs more than is left          exit 3
    ├── ClusterError         SLURM refuses, or lacks what is asked     exit 2
    │   └── BusyError        SLURM may take the same later             exit 2
    ├── StoreError           the database cannot be read or written    exit 2
    ├── RunFolderError       a run folder holds something unreadable   exit 1
    ├── CodeError            a job's code is not what was submitted    job fails, "other code"
    ├── DataError            rows that a task cannot use               exit 2; job fails, "bad data"
    ├── ModelError           a model or tokenizer a job cannot use     job fails, "bad model"
    ├── NetworkError         a server that a job cannot reach          job fails, tried again
    ├── CheckpointError      a checkpoint that cannot be read          job fails, "checkpoint"
    └── ReportError          the paper cannot be rendered              exit 1

Each says what is wrong, where, the nearest valid name, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LwspecError(Exception):
    """An error that a user can cause or mend, printed without a traceback."""

    exit_status = 2
    failure_class = "error"

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        nearest: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.nearest = nearest
        self.remedy = remedy

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.nearest:
            lines.append(f"  did you mean: {self.nearest}")
        if self.remedy:
            lines.append(f"  next: {self.remedy}")
        return "\n".join(lines)


class SpecError(LwspecError):
    """The spec says something that cannot be done."""


class SpecErrors(SpecError):
    """Several errors of one spec, shown together."""

    def __init__(self, errors: list[SpecError]) -> None:
        super().__init__(errors[0].what)
        self.errors = errors

    def __str__(self) -> str:
        shown = self.errors[:8]
        text = "\n".join(str(error) for error in shown)
        rest = len(self.errors) - len(shown)
        return f"{text}\nand {rest} more" if rest else text


class UsageError(LwspecError):
    """The command line says something that cannot be done."""


class BudgetError(LwspecError):
    """The plan would cost more than the budget has left."""

    exit_status = 3


class ClusterError(LwspecError):
    """SLURM refuses a submission, or lacks what is asked of it."""


class BusyError(ClusterError):
    """SLURM does not answer, or takes no more jobs: the same may work later."""


class StoreError(LwspecError):
    """The database cannot be read or written."""


class RunFolderError(LwspecError):
    """A run folder holds something unreadable."""

    exit_status = 1
    failure_class = "run folder"


class CodeError(LwspecError):
    """A job would run other code than the one that was submitted."""

    exit_status = 1
    failure_class = "other code"


class DataError(LwspecError):
    """Rows that a task cannot use."""

    failure_class = "bad data"


class ModelError(LwspecError):
    """A model or tokenizer that a job cannot use."""

    exit_status = 1
    failure_class = "bad model"


class NetworkError(LwspecError):
    """A server that a job cannot reach."""

    exit_status = 1
    failure_class = "network"


class CheckpointError(LwspecError):
    """A checkpoint that cannot be read or written."""

    exit_status = 1
    failure_class = "checkpoint"


class ReportError(LwspecError):
    """The paper cannot be rendered from the records."""

    exit_status = 1


CONVERT = (
    "convert them, where you trust them, with transformers: "
    "AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW)"
)
"""What to do about weights that are a pickle."""


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name closest to `name`, or None where none is close."""
    found = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return found[0] if found else None
