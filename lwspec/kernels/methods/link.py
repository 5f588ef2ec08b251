"""The link between two models' spaces: a small MLP beside a linear map that ridge regression finds.

Shapes: B rows, M vectors, S sender width, R receiver width, N anchors.
Source: the modality bridge of xRAG (Cheng et al. 2024, section 3.2) is the MLP, the outer link of
RecursiveMAS (arXiv 2604.25917) the residual map beside it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lwspec.errors import ModelError
from lwspec.kernels.data.batches import parts
from lwspec.kernels.methods.ridge import ridge
from lwspec.kernels.models.hidden import hidden_states
from lwspec.kernels.models.reader import Reader

MOST_ANCHORS = 4096
ANCHORS_AT_ONCE = 256


class Link(nn.Module):
    """W3 h + W2 gelu(W1 norm(h)): at first the linear map alone, since W2 begins at zero."""

    def __init__(self, map_RS: Tensor, offset_R: Tensor) -> None:
        super().__init__()
        receiver, sender = map_RS.shape
        self.norm = nn.LayerNorm(sender)
        self.enter = nn.Linear(sender, 2 * receiver)
        self.leave = nn.Linear(2 * receiver, receiver)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        self.skip = nn.Linear(sender, receiver)
        self.skip.load_state_dict({"weight": map_RS, "bias": offset_R})

    def forward(self, states_BMS: Tensor) -> Tensor:
        """Soft tokens [B, M, R], each from one vector of the sender's."""
        raised = nn.functional.gelu(self.enter(self.norm(states_BMS)))
        made: Tensor = self.skip(states_BMS) + self.leave(raised)
        return made


def shared_pieces(sender: Reader, receiver: Reader) -> list[tuple[int, int]]:
    """Tokens of the sender and the receiver for strings that are one token in both vocabularies.

    At most `MOST_ANCHORS`, in the order of the sender's vocabulary; special tokens are left out.
    """
    special = {*sender.tokenizer.all_special_ids}, {*receiver.tokenizer.all_special_ids}
    found: list[tuple[int, int]] = []
    for token in range(len(sender.tokenizer)):
        text = str(sender.tokenizer.decode([token]))
        ours, theirs = (each.encode(text)[len(each.bos) :] for each in (sender, receiver))
        if ours != [token] or len(theirs) != 1 or token in special[0] or theirs[0] in special[1]:
            continue
        found.append((token, theirs[0]))
        if len(found) == MOST_ANCHORS:
            break
    return found


def initial_map(sender: Reader, receiver: Reader, layer: int, fewest: int) -> tuple[Tensor, Tensor]:
    """A ridge regression of the receiver's embeddings [N, R] on the sender's states [N, S].

    An anchor is a shared piece, which the sender reads alone, up to `layer`, behind its
    beginning-of-text token, or else its end-of-text token: a text's first position draws attention
    whatever stands there. Raises ModelError where fewer pieces than `fewest` are shared.
    """
    pieces = shared_pieces(sender, receiver)
    if len(pieces) < fewest:
        raise ModelError(
            f"the link begins at a regression over {fewest} strings that are one token in both "
            f"vocabularies; there are {len(pieces)}",
            remedy="set link.anchors lower, or choose another pair",
        )
    prompts = [[[*(sender.bos or [sender.eos]), ours]] for ours, _ in pieces]
    states = [
        row[-1] for part in parts(prompts, ANCHORS_AT_ONCE)
        for row in hidden_states(sender, part, layer)
    ]  # fmt: skip
    embedded_NR = receiver.embed([theirs for _, theirs in pieces])
    return ridge(torch.stack(states), embedded_NR.to(sender.device))
