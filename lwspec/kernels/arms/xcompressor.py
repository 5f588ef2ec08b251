"""500xCompressor: the sender reads into memory tokens, whose keys and values it hands over.

As icae, with what every layer keeps of the M memory tokens in the place of their last states: the
frozen receiver, which is the same model, runs on [keys and values][query] (Li et al. 2025;
github.com/ZongqianLi/500xCompressor, commit c85c1d7). As there, keys lie at the positions that
they were read at, behind the text, and the query begins at position M; rank 64, alpha 32, memory
embeddings from N(0, 1). Deviations: those of icae; a learnt token asks for the text in
autoencoding, in the place of the beginning-of-text token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from lwspec.engine.arm import ArmDeclaration, Role
from lwspec.engine.shapes import Shape
from lwspec.kernels.arm import Arm, Setup
from lwspec.kernels.arms.icae import Reading, inputs
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Message, Prompt
from lwspec.kernels.prompts import query_ids

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lwspec.kernels.methods.memory import Memory


class Settings(Reading):
    """What a spec may set in `xcompressor = { ... }`."""


def vectors(settings: Settings, shapes: Mapping[Role, Shape], most: int) -> tuple[int, int]:
    """A token's keys at a layer are one vector, and so are its values."""
    shape = shapes["receiver"]
    assert shape.key_width is not None
    return 2 * shape.layers * settings.tokens, shape.key_width


def parameters(settings: Settings, sender_width: int, receiver_width: int) -> int:
    """Those beside the adapters, whose number depends on more than the width."""
    return settings.tokens * sender_width + (receiver_width if settings.autoencoding else 0)


def build(setup: Setup) -> nn.Module:
    """The sender's adapters and memory. Raises ModelError where no layer has a target's name."""
    import torch

    from lwspec.kernels.methods.memory import Memory, last_keys_values
    from lwspec.kernels.models.adapters import add_adapters

    sender, settings = setup.sender, setup.settings
    assert sender is not None
    return Memory(
        sender,
        last_keys_values,
        add_adapters(sender, "xcompressor", settings),
        torch.randn(settings.tokens, sender.width),
        settings.tokens,
        again=torch.randn(1, sender.width) if settings.autoencoding else None,
    )


def present(setup: Setup, message: Tensor, seen: Seen) -> Prompt:
    """[keys and values][query], without a beginning-of-text token."""
    from lwspec.kernels.methods.memory import handed_over

    assert setup.reader is not None
    return [handed_over(setup.reader, message), query_ids(setup, seen)]


def loss(setup: Setup, messages: Message) -> Tensor:
    """Autoencoding from [keys and values][a learnt token that asks for it]."""
    from lwspec.kernels.methods.memory import autoencoding, handed_over

    kept, weight = cast("Sequence[Tensor]", messages), setup.settings.autoencoding
    if not weight:
        return kept[0].new_zeros(())
    assert setup.reader is not None
    carried = [[handed_over(setup.reader, one)] for one in kept]
    memory = cast("Memory", setup.module)
    return cast("float", weight) * autoencoding(setup.reader, memory, carried)


ARM = Arm(
    ArmDeclaration(
        name="xcompressor",
        version=1,
        regime="private",
        settings=Settings,
        reads=("sender_prompt", "query", "answer", "max_prompt_tokens"),
        models=("sender", "receiver"),
        tokens="tokens",
        soft=True,
        trained=True,
        epochs=True,
        own=("sender",),
        pair="same_model",
        vectors=vectors,
        seeded=True,
        parameters=parameters,
    ),
    build=build,
    inputs=inputs,
    present=present,
    loss=loss,
)
