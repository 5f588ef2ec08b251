"""Ridge regression between the states of two models, in closed form.

Shapes: N rows, S and R the widths of the two models.
"""

from __future__ import annotations

import torch
from torch import Tensor

PENALTY = 0.01
"""Relative to the scale of the states that are mapped."""


def ridge(x_NS: Tensor, y_NR: Tensor, penalty: float = PENALTY) -> tuple[Tensor, Tensor]:
    """The map [R, S] and offset [R] of y from x, in float32.

    Minimises |y - x map' - offset|^2 + p |map|^2 over the rows, where p is `penalty` times the
    mean over the features of their sums of squares about their means, so that it means the same for
    states of any scale. The offset is not penalised. Solved in float64; states that are all alike
    tell nothing, and their map is zero.
    """
    x, y = x_NS.double(), y_NR.double()
    centred = x - x.mean(0)
    gram_SS = centred.T @ centred
    scale = gram_SS.diagonal().mean()
    if not scale:
        return y.new_zeros(y.shape[1], x.shape[1]).float(), y.mean(0).float()
    gram_SS.diagonal().add_(penalty * scale)
    map_RS = torch.linalg.solve(gram_SS, centred.T @ (y - y.mean(0))).T
    return map_RS.float(), (y.mean(0) - map_RS @ x.mean(0)).float()
