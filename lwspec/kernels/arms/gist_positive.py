"""The positive control of gist: the same tokens, and the query sees the text too.

The receiver with adapters reads [the sender's prompt][k gist tokens][query] without a mask of its
own: as far as the adapters bring it where nothing has to be compressed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from lwspec.engine.arm import ArmDeclaration
from lwspec.kernels.arm import Arm, Setup
from lwspec.kernels.arms.gist import Settings, build, parameters
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Prompt
from lwspec.kernels.prompts import query_ids, text_prompt

if TYPE_CHECKING:
    from lwspec.kernels.methods.memory import Memory


def present(setup: Setup, message: None, seen: Seen) -> Prompt:
    """[the sender's prompt][gist tokens][query]."""
    memory = cast("Memory", setup.module).memory
    return [*text_prompt(setup, "sender_prompt", seen), memory, query_ids(setup, seen)]


ARM = Arm(
    ArmDeclaration(
        name="gist_positive",
        version=1,
        regime="reference",
        settings=Settings,
        reads=("sender_prompt", "query", "answer", "max_prompt_tokens"),
        models=("receiver",),
        tokens="tokens",
        trained=True,
        epochs=True,
        own=("receiver",),
        seeded=True,
        parameters=parameters,
    ),
    build=build,
    present=present,
)
