"""The receiver gets the query and no message: what it scores by guessing from the labels alone."""

from __future__ import annotations

from lwspec.engine.arm import ArmDeclaration
from lwspec.kernels.arm import Arm, Setup
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Prompt


def present(setup: Setup, message: None, seen: Seen) -> Prompt:
    """[BOS][query]; the context, which a reference arm could see, is not used."""
    assert setup.reader is not None
    return [setup.reader.encode(seen.fill(setup.task["query"]))]


ARM = Arm(
    ArmDeclaration(
        name="no_message",
        version=1,
        regime="reference",
        reads=("query", "answer"),
        models=("receiver",),
    ),
    present=present,
)
