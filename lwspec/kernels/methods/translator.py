"""Vector translation: maps between the states of two models, learnt both ways at once.

Shapes: B rows, S and R the widths of the two models, C = 512.
Source: Yang and Eshraghian 2025 (arXiv 2511.03945), without published code: an encoder to 512, 8
heads of attention, a decoder; mean squared error + 0.5 cycle + 0.3 InfoNCE + 0.2 distribution;
AdamW at 1e-3 for 50 epochs. Chosen here: a GELU behind the encoder, the attention's output added to
its input, InfoNCE by cosine at temperature 0.07 within a batch of 64, and the distribution's term
as squared differences of means and standard deviations.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from lwspec.kernels.methods.taught import held_out

HEADS = 8
EPOCHS = 50
BATCH = 64
RATE = 1e-3
TEMPERATURE = 0.07


class Translator(nn.Module):
    """One direction. Over a single vector attention weighs nothing: it is two linear maps."""

    def __init__(self, width_in: int, inner: int, width_out: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width_in, inner)
        self.attention = nn.MultiheadAttention(inner, HEADS, batch_first=True)
        self.leave = nn.Linear(inner, width_out)

    def forward(self, states_BS: Tensor) -> Tensor:
        """States [B, R] of the other model."""
        x = functional.gelu(self.enter(states_BS))[:, None]
        read, _ = self.attention(x, x, x, need_weights=False)
        made: Tensor = self.leave((x + read)[:, 0])
        return made


class Pair(nn.Module):
    """Both directions."""

    def __init__(self, sender_width: int, inner: int, receiver_width: int) -> None:
        super().__init__()
        self.forth = Translator(sender_width, inner, receiver_width)
        self.back = Translator(receiver_width, inner, sender_width)


def info_nce(made_BR: Tensor, true_BR: Tensor) -> Tensor:
    """Cross-entropy of finding each row's own true state among the batch's, by cosine."""
    cosines = functional.normalize(made_BR, dim=1) @ functional.normalize(true_BR, dim=1).T
    own = torch.arange(len(cosines), device=cosines.device)
    return functional.cross_entropy(cosines / TEMPERATURE, own)


def distribution(made_BR: Tensor, true_BR: Tensor) -> Tensor:
    """Squared differences of the batch's means and standard deviations."""
    means = functional.mse_loss(made_BR.mean(0), true_BR.mean(0))
    spreads = functional.mse_loss(made_BR.std(0, correction=0), true_BR.std(0, correction=0))
    return means + spreads


def translation_loss(pair: Pair, x_BS: Tensor, y_BR: Tensor) -> Tensor:
    """All four terms, each summed over both directions."""
    forth, back = pair.forth(x_BS), pair.back(y_BR)
    ways = ((forth, y_BR), (back, x_BS))
    squares = sum(functional.mse_loss(*way) for way in ways)
    cycles = functional.mse_loss(pair.back(forth), x_BS) + functional.mse_loss(
        pair.forth(back), y_BR
    )
    contrasts = sum(info_nce(*way) for way in ways)
    spreads = sum(distribution(*way) for way in ways)
    loss: Tensor = squares + 0.5 * cycles + 0.3 * contrasts + 0.2 * spreads
    return loss


def learn(x_NS: Tensor, y_NR: Tensor, inner: int) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Weights for `translate`, and the mean cosine of translated and true states both ways.

    The translators are `inner` wide. States are standardised by the means and standard deviations
    of the rows that are learnt. The cosines are between standardised states of rows that are not.
    Drawn from torch's seeded generator.
    """
    held = held_out(len(x_NS), x_NS.device)
    standards = {"given": _standard(x_NS[~held]), "made": _standard(y_NR[~held])}
    x_NS = (x_NS - standards["given"][0]) / standards["given"][1]
    y_NR = (y_NR - standards["made"][0]) / standards["made"][1]
    pair = Pair(x_NS.shape[1], inner, y_NR.shape[1]).to(x_NS.device)
    optimizer = torch.optim.AdamW(pair.parameters(), lr=RATE)
    learnt = (~held).nonzero()[:, 0]
    for _ in range(EPOCHS):
        for rows in torch.split(learnt[torch.randperm(len(learnt))], BATCH):
            optimizer.zero_grad()
            translation_loss(pair, x_NS[rows], y_NR[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    with torch.no_grad():
        forth = functional.cosine_similarity(pair.forth(x_NS[held]), y_NR[held]).mean()
        back = functional.cosine_similarity(pair.back(y_NR[held]), x_NS[held]).mean()
    weights = {**pair.state_dict(), **{name: torch.stack(s) for name, s in standards.items()}}
    found = {name: weight.detach().cpu() for name, weight in weights.items()}
    return found, {"cosine": float(forth), "cosine_back": float(back)}


def _standard(states_NW: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature; features that never change are left alone."""
    spread = states_NW.std(0, correction=0)
    return states_NW.mean(0), torch.where(spread > 0, spread, 1.0)


@torch.no_grad()
def translate(weights: Mapping[str, Tensor], states_BS: Tensor) -> Tensor:
    """The receiver's states [B, R] for the sender's, from what was learnt."""
    given, made = weights["given"], weights["made"]
    with torch.device("meta"):
        inner = len(weights["forth.enter.bias"])
        forth = Translator(given.shape[1], inner, made.shape[1])
    own = {n.removeprefix("forth."): w for n, w in weights.items() if n.startswith("forth.")}
    forth.load_state_dict(own, assign=True)
    translated: Tensor = forth.eval()((states_BS - given[0]) / given[1])
    return translated * made[1] + made[0]
