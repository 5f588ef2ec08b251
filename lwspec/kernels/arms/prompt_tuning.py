"""Soft tokens before the receiver's prompt, the same for every text (Lester et al. 2021).

With `text` the receiver also reads the whole text: how far can the receiver alone be tuned? Without
it the receiver sees the query and nothing of the text, and can only guess: the chance line. Soft
tokens begin as random rows of the receiver's embeddings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from lwspec.engine.arm import ArmDeclaration
from lwspec.engine.fields import Frozen, Positive
from lwspec.kernels.arm import Arm, Setup
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Prompt

if TYPE_CHECKING:
    from torch import Tensor, nn


class Settings(Frozen):
    """What a spec may set in `prompt_tuning = { ... }`."""

    tokens: Positive = 8
    """Soft tokens that are tuned."""
    text: bool
    """Whether the receiver reads the text beside the soft tokens."""


def parameters(settings: Settings, sender_width: int, receiver_width: int) -> int:
    """One embedding a soft token."""
    return settings.tokens * receiver_width


def build(setup: Setup) -> nn.Module:
    """The soft tokens [tokens, receiver_width], in float32."""
    import torch
    from torch import nn

    assert setup.reader is not None
    embedding = setup.reader.embedding
    ids = torch.randint(embedding.num_embeddings, (setup.settings.tokens,))
    rows = embedding(ids.to(setup.reader.device)).detach().float().clone()
    return nn.ParameterDict({"prompt": nn.Parameter(rows)})


def present(setup: Setup, message: None, seen: Seen) -> Prompt:
    """[BOS][soft tokens][prompt around the text], or [BOS][soft tokens][query]."""
    assert setup.reader is not None and setup.module is not None
    soft = cast("Tensor", cast("nn.ParameterDict", setup.module)["prompt"])
    template = setup.task["receiver_prompt" if setup.settings.text else "query"]
    ids = setup.reader.encode(seen.fill(template), setup.task["max_prompt_tokens"])
    bos = setup.reader.bos
    return [bos, soft, ids[len(bos) :]]


ARM = Arm(
    ArmDeclaration(
        name="prompt_tuning",
        version=1,
        regime="reference",
        settings=Settings,
        reads=("receiver_prompt", "query", "answer", "max_prompt_tokens"),
        models=("receiver",),
        tokens="tokens",
        trained=True,
        epochs=True,
        seeded=True,
        parameters=parameters,
    ),
    build=build,
    present=present,
)
