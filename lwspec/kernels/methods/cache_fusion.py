"""Cache-to-Cache: a sharer's keys and values projected into a receiver's, layer by layer.

Source: Fu et al. 2025 (arXiv 2510.03215), section 3.3; projector, gates and their temperature as
C2CProjector of thu-nics/C2C at 69eb705. Shapes: T tokens of a row, N of all rows that are fused
together, D layers of the receiver, L of the sharer that are sent, S the sharer's key width over all
heads, H the receiver's key heads, W their width, R = H W, F the projector's width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from lwspec.kernels.message import Cached
from lwspec.kernels.models.keys_values import as_cached, keys_values
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.models.realign import realign

WARMEST, COLDEST = 1.0, 0.001
"""The gates' temperature in the first step, and once it has fallen."""
TINY = 1e-20
"""Keeps a logarithm finite."""


class Block(nn.Module):
    """x + feed-forward(RMSNorm(x)), of one width, without biases."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.rise = nn.Linear(width, width, bias=False)
        self.fall = nn.Linear(width, width, bias=False)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        fed: Tensor = self.drop(self.fall(functional.gelu(self.rise(self.norm(x)))))
        return x + fed


class Projector(nn.Module):
    """What is added to one layer's keys, or to its values, and how much at each head."""

    def __init__(self, sent: int, heads: int, head_width: int, width: int, dropout: float) -> None:
        super().__init__()
        own = heads * head_width
        self.enter = nn.Linear(sent + own, width)
        self.common = Block(width, dropout)
        self.weigh = nn.Sequential(Block(width, dropout), nn.Linear(width, heads))
        self.project = nn.Sequential(Block(width, dropout), nn.Linear(width, own))
        self.gate_logit = nn.Parameter(torch.zeros(()))

    def forward(self, sent_NS: Tensor, own_HNW: Tensor, gate_HN1: Tensor) -> Tensor:
        """The receiver's own [H, N, W] with the projection added, as far as the gates let it."""
        own_NR = own_HNW.transpose(0, 1).flatten(1)
        hidden_NF = self.common(self.enter(torch.cat([sent_NS, own_NR], 1)))
        weight_HN1 = self.weigh(hidden_NF).sigmoid().T[..., None]
        projected_HNW = self.project(hidden_NF).view(own_HNW.transpose(0, 1).shape).transpose(0, 1)
        fused: Tensor = own_HNW + gate_HN1 * weight_HN1 * projected_HNW
        return fused


class CacheFusion(nn.Module):
    """A projector for the keys and one for the values of every layer of the receiver.

    In training, what is drawn for rows that are fused together depends on the seed, on the step,
    which is counted in a buffer, on the rows before them in their batch and on their own lengths,
    so that a fit is resumed bit by bit.
    """

    seed: Tensor
    begun: Tensor

    def __init__(
        self,
        sent: int,
        layers: int,
        heads: int,
        head_width: int,
        *,
        width: int,
        dropout: float,
        anneal_steps: int,
    ) -> None:
        """`sent` is the sharer's key width; the others but for `width` are the receiver's."""
        super().__init__()
        self.projectors = nn.ModuleList(
            Projector(sent, heads, head_width, width, dropout) for _ in range(2 * layers)
        )
        self.anneal_steps = anneal_steps
        self.register_buffer("seed", torch.randint(2**24, ()))
        self.register_buffer("begun", torch.zeros((), dtype=torch.long))
        self._step = self._rows = 0

    def begin_step(self) -> None:
        """Count a step of training, before its rows."""
        self._step, self._rows = int(self.begun), 0
        self.begun += 1

    def forward(self, sent: Sequence[Tensor], own: Sequence[Tensor]) -> list[Tensor]:
        """Rows' keys and values [D, 2, H, T, W] of the receiver, with the sharer's fused in.

        `sent` are [L, 2, T, S] a row. Tokens are paired by position; those of the receiver beyond
        the sharer's stay as they are, those of the sharer beyond the receiver's are left out.
        """
        both = [min(ours.shape[3], its.shape[2]) for ours, its in zip(own, sent, strict=True)]
        own_D2HNW = torch.cat([row[..., :n, :] for row, n in zip(own, both, strict=True)], 3)
        sent_L2NS = torch.cat([row[..., :n, :] for row, n in zip(sent, both, strict=True)], 2)
        own_D2HNW, sent_L2NS = own_D2HNW.float(), sent_L2NS.to(own_D2HNW.device).float()
        layers = aligned(len(own_D2HNW), len(sent_L2NS))
        taken = [sent_L2NS[layer, which] for layer in layers for which in range(2)]
        each = zip(self.projectors, taken, own_D2HNW.flatten(0, 1), strict=True)
        with self._drawing(own_D2HNW.device, len(own)):
            fused = torch.stack([self._fused(*one) for one in each]).view(own_D2HNW.shape)
        rows = zip(torch.split(fused, both, 3), own, both, strict=True)
        return [torch.cat([new, old[..., n:, :].float()], 3) for new, old, n in rows]

    def _fused(self, projector: nn.Module, sent_NS: Tensor, own_HNW: Tensor) -> Tensor:
        assert isinstance(projector, Projector)
        logit = projector.gate_logit
        if not self.training:
            gate = (logit > 0).float()
        else:
            drawn_HN1 = torch.rand(own_HNW.shape[:2], device=own_HNW.device)[..., None]
            gate = soft_gate(logit, drawn_HN1, temperature(self._step, self.anneal_steps))
        fused: Tensor = projector(sent_NS, own_HNW, gate)
        return fused

    @contextmanager
    def _drawing(self, device: torch.device, rows: int) -> Iterator[None]:
        """Within, in training, torch draws what belongs to this step and to its next rows."""
        if not self.training:
            yield
            return
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed((int(self.seed) * 1_000_003 + self._step) * 4096 + self._rows)
            yield
        self._rows += rows


def soft_gate(logit: Tensor, drawn: Tensor, temperature: float) -> Tensor:
    """Gumbel-sigmoid gates from numbers drawn uniformly between 0 and 1."""
    gumbel = -torch.log(-torch.log(drawn + TINY) + TINY)
    return torch.sigmoid((logit + gumbel) / temperature)


def temperature(step: int, anneal_steps: int) -> float:
    """The gates' temperature in a step, the first being 0: it falls geometrically, then stays."""
    return float(WARMEST * (COLDEST / WARMEST) ** min(step / anneal_steps, 1.0))


def aligned(layers: int, sent: int) -> list[int]:
    """For each of the receiver's layers the one of those sent: the last with the last.

    Where fewer are sent, the first goes to all layers that have none.
    """
    return [max(0, layer - layers + sent) for layer in range(layers)]


@torch.no_grad()
def shared(sender: Reader, reader: Reader, prompts: Sequence[Sequence[int]]) -> list[Tensor]:
    """What a sharer sends of prompts in the receiver's tokens: keys and values [L, 2, T, S] each.

    The sharer reads one token of its own in the place of each. Its last layers are sent, as many as
    the receiver has.
    """
    rows = [realign(ids, reader.tokenizer, sender.tokenizer) for ids in prompts]
    layers = reader.model.config.get_text_config().num_hidden_layers
    read = keys_values(sender, [[ids] for ids in rows])
    return [one[-layers:].transpose(2, 3).flatten(3) for one in read]


def fuse(
    fusion: CacheFusion, reader: Reader, messages: Sequence[Tensor], rows: Sequence[Sequence[int]]
) -> list[Cached]:
    """What the receiver reads of some rows' tokens, with their messages [L, 2, T, S] fused in.

    All rows are in memory together. Gradients reach the fusion's weights, and neither model.
    """
    with torch.no_grad():
        own = keys_values(reader, [[ids] for ids in rows])
    return [as_cached(row) for row in fusion(messages, own)]


@torch.no_grad()
def fusion_between(
    sender: Reader, reader: Reader, *, width: int, dropout: float, anneal_steps: int
) -> CacheFusion:
    """An untrained fusion for a pair, by what each keeps of a token."""
    (sent,), (own,) = (keys_values(each, [[[each.eos]]]) for each in (sender, reader))
    layers, _, heads, _, head_width = own.shape
    fusion = CacheFusion(
        sent.shape[2] * sent.shape[4],
        layers,
        heads,
        head_width,
        width=width,
        dropout=dropout,
        anneal_steps=anneal_steps,
    )
    return fusion.to(reader.device)
