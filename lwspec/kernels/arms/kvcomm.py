"""KVComm: keys and values of the sender's best layers, before the receiver's query (ICLR 2026).

The sender reads the context alone, the receiver the query alone; both are of one shape, such as two
fine-tunes of one base. Layers are scored on the first training row, by the attention that the
receiver pays to the context and by their nearness to the middle. Nothing is trained.

Positions: keys are handed over as they were rotated, and the receiver's tokens have the positions
after the context's in every layer, also where a layer was given less; this is the published code's
default (commit 1fa086e), whose other way counts from 1 in such layers.

Deviations: layers are scored on a training row, where the published code takes the first test row;
no token sees a later one, which that code does not keep to where it scores layers (under
transformers' default attention), nor in layers that were given less while it reads the query; the
number of layers is rounded up, as in the paper, where the code rounds down; the prompts are the
task's, without a chat template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lwspec.engine.arm import ArmDeclaration, Role
from lwspec.engine.fields import Frozen
from lwspec.engine.shapes import Shape
from lwspec.kernels.arm import Arm, Batch, Setup, Solved
from lwspec.kernels.data.seen import Seen
from lwspec.kernels.message import Message, Prompt
from lwspec.kernels.prompts import sender_ids

if TYPE_CHECKING:
    from torch import Tensor

    from lwspec.kernels.methods.selected_layers import Selected

Share = Annotated[float, Field(ge=0, le=1)]


class Settings(Frozen):
    """What a spec may set in `kvcomm = { ... }`."""

    ratio: Share = 0.7
    """The share of the layers that is handed over; 0.3, 0.5 and 0.7 in the paper."""
    alpha: Share = 1.0
    """The weight of attention against nearness to the middle: 1 for Llama, 0.8 for Qwen."""
    sigma: Annotated[float, Field(gt=0)] = 10.0
    """How far from the middle layer counts as near, in layers."""
    others: Literal["first_token", "nothing"] = "first_token"
    """What other layers are given: the first token's keys and values, and layer 0 everything, as in
    the published code, or nothing, as in the paper's equations."""


def vectors(settings: Settings, shapes: Mapping[Role, Shape], tokens: int) -> tuple[int, int]:
    """A token's keys at a layer that is handed over are one vector, and so are its values."""
    from lwspec.kernels.methods.selected_layers import layers_of

    shape = shapes["sender"]
    assert shape.key_width is not None
    whole, others = layers_of(settings.ratio, shape.layers), 0
    if settings.others == "first_token":
        whole = min(whole + 1, shape.layers)
        others = shape.layers - whole
    return 2 * (whole * tokens + others), shape.key_width


def solve(setup: Setup, batch: Batch, labels: Sequence[int], num_labels: int) -> Solved:
    """The layers' scores [layers] on the first row."""
    import torch

    from lwspec.kernels.methods.selected_layers import attention_to_context, layer_scores
    from lwspec.kernels.models.keys_values import keys_values

    assert setup.reader is not None and setup.sender is not None
    first = Batch(batch.contexts[:1], fields=batch.fields[:1])
    (ids,) = sender_ids(setup, first)
    with torch.no_grad():
        (read,) = keys_values(setup.sender, [[ids]])
    query = _query(setup, Seen(None, *(first.fields or [{}])))
    attention = attention_to_context(setup.reader, read, query)
    settings: Settings = setup.settings
    scores = layer_scores(attention, settings.alpha, settings.sigma)
    return Solved({"scores": scores}, {}, parameters=0)


def selected(setup: Setup) -> Selected:
    """The layers that are handed over, by their scores."""
    from lwspec.kernels.methods.selected_layers import Selected, best_layers, layers_of

    settings, scores = setup.settings, setup.weights["scores"]
    best = best_layers(scores, layers_of(settings.ratio, len(scores)))
    if settings.others == "nothing":
        return Selected(best, [])
    whole = sorted({0, *best})
    return Selected(whole, [layer for layer in range(len(scores)) if layer not in whole])


def message(setup: Setup, batch: Batch) -> Message:
    """Keys and values [2, tokens of all layers in turn, key_width]."""
    from lwspec.kernels.models.keys_values import keys_values

    assert setup.sender is not None
    layers, prompts = selected(setup), [[ids] for ids in sender_ids(setup, batch)]
    return [layers.pack(one) for one in keys_values(setup.sender, prompts)]


def present(setup: Setup, message: Tensor, seen: Seen) -> Prompt:
    """[keys and values][BOS][query]; what the receiver reads alone where no layer is sent."""
    assert setup.reader is not None
    layers, query = selected(setup), _query(setup, seen)
    return [layers.unpack(setup.reader, message), query] if layers.whole else [query]


def _query(setup: Setup, seen: Seen) -> list[int]:
    assert setup.reader is not None
    return setup.reader.encode(seen.fill(setup.task["query"]))


ARM = Arm(
    ArmDeclaration(
        name="kvcomm",
        version=1,
        regime="private",
        settings=Settings,
        reads=("sender_prompt", "query", "answer", "max_prompt_tokens"),
        models=("sender", "receiver"),
        soft=True,
        trained=True,
        learns_answers=False,
        pair="same_shape",
        vectors=vectors,
    ),
    solve=solve,
    message=message,
    present=present,
)
