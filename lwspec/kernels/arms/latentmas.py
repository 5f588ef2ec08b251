"""LatentMAS: a sender that reads, thinks in hidden states, and hands over what it keeps of both.

After its prompt the sender reads its own last hidden state, mapped to an embedding, m times; keys
and values of all layers stand before the receiver's query (arXiv 2511.20639; code at
commit 1430ad6). Sender and receiver are one model. Nothing is trained.

Deviations: two roles in place of four, on the task's prompts without a chat template; the receiver
does not see the text, where the original's last agent does; it answers greedily; no token attends
to padding, as it does in the published code; without latent steps the prompt alone is handed over,
where the published code then hands over nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lwspec.engine.arm import ArmDeclaration, Role
from lwspec.engine.fields import Frozen
from lwspec.engine.shapes import Shape
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Message, Prompt
from lwspec.kernels.prompts import query_ids, sender_ids

if TYPE_CHECKING:
    from torch import Tensor


class Settings(Frozen):
    """What a spec may set in `latentmas = { ... }`."""

    steps: Annotated[int, Field(ge=0)] = 10
    """Latent steps, m; 10 to 80 in the paper."""
    realign: Literal["identity", "ridge", "random"] = "identity"
    """The map from hidden states to embeddings: the published code's default; the paper's, which is
    nearly the identity where a model's two embeddings are tied; or an orthogonal one drawn once."""


def vectors(settings: Settings, shapes: Mapping[Role, Shape], tokens: int) -> tuple[int, int]:
    """A token's keys at a layer are one vector, and so are its values."""
    shape = shapes["sender"]
    assert shape.key_width is not None
    return 2 * shape.layers * (tokens + settings.steps), shape.key_width


def message(setup: Setup, batch: Batch) -> Message:
    """Keys and values [layers, 2, prompt tokens + steps, key_width]."""
    from lwspec.kernels.methods.latent_steps import alignment, think
    from lwspec.kernels.models.keys_values import as_vectors

    assert setup.sender is not None
    settings: Settings = setup.settings
    prompts = [[ids] for ids in sender_ids(setup, batch)]
    align = alignment(setup.sender, settings.realign)
    return [as_vectors(one) for one in think(setup.sender, prompts, settings.steps, align)]


def present(setup: Setup, message: Tensor, seen: Seen) -> Prompt:
    """[keys and values][query], as if the receiver had read and thought all that itself."""
    from lwspec.kernels.models.keys_values import as_cached, from_vectors

    assert setup.reader is not None
    return [as_cached(from_vectors(setup.reader, message)), query_ids(setup, seen)]


ARM = Arm(
    ArmDeclaration(
        name="latentmas",
        version=1,
        regime="private",
        settings=Settings,
        reads=("sender_prompt", "query", "answer", "max_prompt_tokens"),
        models=("sender", "receiver"),
        soft=True,
        pair="same_model",
        vectors=vectors,
    ),
    message=message,
    present=present,
)
