"""Low-rank adapters trained on one model and moved to another.

Shapes: O and I a layer's output and input widths, of the source or the target; K = the rank of the
subspaces, L = the adapter's.
Source: Cross-LoRA (Xia et al. 2025, arXiv 2508.05232), without published code: truncated singular
value decompositions of both layers' own weights, the linear maps between their subspaces that are
best by the Frobenius norm, and the adapter's update mapped by them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lwspec.errors import ModelError
from lwspec.kernels.models.answer_logits import answer_logits
from lwspec.kernels.models.blocks import blocks_of
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.training.loss import Counts, answer_loss


def move(
    down_LI: Tensor, up_OL: Tensor, source_OI: Tensor, target_OI: Tensor, rank: int
) -> tuple[Tensor, Tensor]:
    """An adapter's two factors as the target's: [L, I] and [O, L] of its widths.

    With U S V' of each layer cut to `rank` (or what the smaller of them has), the best P in
    |P U_source - U_target| is U_target U_source', and alike for V. The update up down becomes
    P_U up down P_V', which is again of rank L.
    """
    most = min(rank, *source_OI.shape, *target_OI.shape)
    (from_U, from_V), (to_U, to_V) = (_subspaces(each, most) for each in (source_OI, target_OI))
    return (down_LI @ from_V) @ to_V.T, to_U @ (from_U.T @ up_OL)


def _subspaces(weight_OI: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    left, _, right = torch.linalg.svd(weight_OI.float(), full_matrices=False)
    return left[:, :rank], right[:rank].T


def move_all(source: Any, target: Any, targets: Sequence[str], rank: int) -> dict[str, Tensor]:
    """The adapters in `source`, moved to `target`'s layers of the same names.

    A block's adapters come from the block at the same relative depth. Keys are those of the target
    once it has adapters, with slashes for dots. Raises ModelError for a layer that only the target
    has.
    """
    given, taken = _layers(source, targets), _layers(target, targets)
    found: dict[str, Tensor] = {}
    for place, block in enumerate(taken):
        origin = given[round(place * (len(given) - 1) / max(1, len(taken) - 1))]
        for name, (path, layer) in block.items():
            if name not in origin:
                raise ModelError(
                    f"the receiver has layers {name!r}; the sender has none to move them from",
                    remedy="set cross_lora.targets to layers that both have",
                )
            _, adapted = origin[name]
            down, up = move(
                adapted.lora_A["default"].weight.detach(),
                adapted.lora_B["default"].weight.detach(),
                adapted.base_layer.weight,
                layer.weight.to(adapted.base_layer.weight.device),
                rank,
            )
            path = path.replace(".", "/")
            found[f"{path}/lora_A/default/weight"] = down.cpu().contiguous()
            found[f"{path}/lora_B/default/weight"] = up.cpu().contiguous()
    return found


def _layers(model: Any, targets: Sequence[str]) -> list[dict[str, tuple[str, Any]]]:
    """For each block its layers of some names: where they lie, and they themselves."""
    paths = {module: path for path, module in model.named_modules()}
    return [
        {
            path.rpartition(".")[2]: (f"{paths[block]}.{path}", module)
            for path, module in block.named_modules()
            if path.rpartition(".")[2] in targets
        }
        for block in blocks_of(model)
    ]


def train(
    reader: Reader,
    weights: Sequence[Tensor],
    prompts: Sequence[Sequence[Any]],
    answers: Sequence[Sequence[int]],
    settings: Mapping[str, Any],
) -> float:
    """AdamW on the answers' cross-entropy; the mean of the last epoch's batches.

    Of the settings `epochs`, `batch_size` and `learning_rate` count; torch's seeded generator
    draws the order.
    """
    optimizer = torch.optim.AdamW(weights, lr=settings["learning_rate"])
    losses: list[Tensor] = []
    for _ in range(settings["epochs"]):
        losses = []
        for batch in torch.split(torch.randperm(len(prompts)), settings["batch_size"]):
            said = [answers[row] for row in batch]
            optimizer.zero_grad()
            logits, tokens = answer_logits(reader, [prompts[row] for row in batch], said)
            loss = answer_loss(logits, tokens, Counts(sum(map(len, said)), len(said)))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.detach())
    return float(torch.stack(losses).mean())
