"""A forward and a backward pass recorded once as CUDA graphs, then replayed without the host.

A replay works on the tensors of the recording: what a pass needs is copied into them, and what it
makes must be used before the next replay.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Key = TypeVar("Key", bound=Hashable)
Made = TypeVar("Made")


class Captured:
    """One pass of fixed shapes, forward and back."""

    def __init__(
        self,
        inputs: Sequence[Tensor],
        forward: Callable[..., Tensor],
        backward: Callable[[Sequence[Tensor], Tensor, Tensor], Any],
        pool: Any,
    ) -> None:
        """Record `forward` of the inputs, and `backward` of them, what it made and its gradient.

        Both were run before, so that all that is made once is there. Graphs of one `pool` share
        their memory: no two of them may be under way at once.
        """
        self.inputs = [tensor.detach().clone() for tensor in inputs]
        for held, given in zip(self.inputs, inputs, strict=True):
            held.requires_grad_(given.requires_grad)
        self._holds = forward, backward  # and all that they read besides, where it is
        self._forward, self._backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(self._forward, pool=pool):
            made = forward(*self.inputs)
        self._gradient = torch.empty_like(made)
        with torch.cuda.graph(self._backward, pool=pool):
            self.back = backward(self.inputs, made, self._gradient)
        self.made = made.detach()

    @torch.no_grad()
    def forward(self, *inputs: Tensor) -> Tensor:
        """What is made of the inputs."""
        for held, given in zip(self.inputs, inputs, strict=True):
            held.copy_(given, non_blocking=True)
        self._forward.replay()
        return self.made

    @torch.no_grad()
    def backward(self, gradient: Tensor) -> Any:
        """What `backward` returned, from the gradient of what was made last."""
        self._gradient.copy_(gradient)
        self._backward.replay()
        return self.back


class Kept(Generic[Key]):
    """The passes that were captured last, by what tells them apart; all share one memory pool."""

    MOST = 8

    def __init__(self) -> None:
        self._kept: dict[Key, Any] = {}
        self._pool: Any = None

    def get(self, key: Key) -> Any:
        """The pass of a key, or None where none was captured."""
        return self._kept.get(key)

    def capture(
        self,
        key: Key,
        inputs: Sequence[Tensor],
        forward: Callable[..., Tensor],
        backward: Callable[[Sequence[Tensor], Tensor, Tensor], Any],
    ) -> Captured:
        """Capture the pass of a key, forward and back."""
        return self.keep(key, lambda pool: Captured(inputs, forward, backward, pool))

    def keep(self, key: Key, make: Callable[[Any], Made]) -> Made:
        """Keep what is made in the pool, in the place of the oldest where there are many."""
        self._kept.pop(key, None)
        while len(self._kept) >= self.MOST:
            self._kept.pop(next(iter(self._kept)))
        if not self._kept:  # a pool ends with its last graph
            self._pool = torch.cuda.graph_pool_handle() if torch.cuda.is_available() else None
        made = make(self._pool)
        self._kept[key] = made
        return made

    def drop(self) -> None:
        """Give back their memory."""
        self._kept.clear()
        self._pool = None
