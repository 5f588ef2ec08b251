"""What is trained of an arm: its module's messages, and its weights' updates.

Where the receiver is compiled and on a GPU, both are recorded once for each shape of batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.data.rows import Row
from lwspec.kernels.message import Cached, Graft, Prompt
from lwspec.kernels.models.captured import Captured, Kept
from lwspec.kernels.setup import present_rows


class Learner:
    """An arm's module with its optimiser: a message for each row, then an update from what came.

    Messages are made for a whole batch at once, since their losses beside the answer's are over
    the batch.
    """

    def __init__(self, arm: Arm, setup: Setup, train: Mapping[str, Any]) -> None:
        assert setup.module is not None and setup.reader is not None
        self.arm, self.setup, self.module = arm, setup, setup.module
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.device = setup.reader.device
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=torch.tensor(float(train["learning_rate"]), device=self.device),
            weight_decay=train["weight_decay"],
            fused=True,
            capturable=self.device.type == "cuda",
        )
        half = setup.reader.embedding.weight.itemsize < 4  # which would not see the difference
        self._tf32 = setup.reader.compiled and half
        self._clip_norm: float = train["clip_norm"]
        own = bool(arm.declaration.own)  # whose modules run a whole model
        recorded = setup.reader.compiled and self.device.type == "cuda" and not own
        self._passes: Kept[Any] | None = Kept() if recorded else None
        self._seen: set[Any] = set()
        self._made: Tensor | None = None
        self._leaf: Tensor | None = None
        self._presented: list[tuple[Tensor, Tensor]] = []
        self._captured: Captured | None = None

    def messages(self, batch: Batch) -> Sequence[Any]:
        """A message a row, which collects its gradient where the module made it.

        None where there is none; where it is made otherwise, what is trained reads it.
        """
        self._made = self._leaf = self._captured = None
        self._presented = []
        if self.arm.message is not None:
            with torch.no_grad():
                return self.arm.message(self.setup, batch)
        if self.arm.inputs is None:
            return [None] * len(batch.contexts)
        inputs = self.arm.inputs(self.setup, batch)
        self._captured = self._recorded(inputs)
        run = self.module if self._captured is None else self._captured.forward
        with tf32(self._tf32):
            self._made = run(*inputs)
        assert self._made is not None
        self._leaf = self._made.detach().requires_grad_()
        return self._leaf.unbind()

    def prompts(
        self, setup: Setup, messages: Sequence[Any], rows: Sequence[Row]
    ) -> Sequence[Prompt]:
        """Each row's prompt; what is made of it for all rows together collects its gradient.

        So the receiver may pass over some of the rows at a time, or anew where its memory ran out.
        """
        prompts = present_rows(self.arm, setup, messages, rows)
        if self.arm.present_all is None:
            return prompts
        return [[self._apart(part) for part in prompt] for prompt in prompts]

    def _apart(self, part: Any) -> Any:
        if isinstance(part, Cached):
            pairs = part.layers.items()
            held = {at: (self._collecting(k), self._collecting(v)) for at, (k, v) in pairs}
            return replace(part, layers=held)
        if isinstance(part, Graft):
            return replace(part, states=self._collecting(part.states))
        return self._collecting(part) if isinstance(part, Tensor) else part

    def _collecting(self, made: Tensor) -> Tensor:
        if not made.requires_grad:
            return made
        leaf = made.detach().requires_grad_()
        self._presented.append((made, leaf))
        return leaf

    def leaves(self) -> list[Tensor]:
        """Where the receiver's gradients collect: the weights, and what was made last with them."""
        made = [] if self._leaf is None else [self._leaf]
        return [*self.parameters, *made, *(leaf for _, leaf in self._presented)]

    def update(self, rate: float) -> None:
        """One step of the optimiser from the gradients that have come."""
        for group in self.optimizer.param_groups:
            group["lr"].fill_(rate)
        self._send_back()
        if self._made is None:
            self._step()
            return
        assert self._leaf is not None and self._leaf.grad is not None
        with tf32(self._tf32):
            if self._captured is None:
                self._learn((), self._made, self._leaf.grad)
            else:
                self._captured.backward(self._leaf.grad)
        self._made = self._leaf = self._captured = None

    def _send_back(self) -> None:
        """From what was presented to the weights, and to the messages that it was made of."""
        reached = [(made, leaf) for made, leaf in self._presented if leaf.grad is not None]
        if reached:
            made, leaves = zip(*reached, strict=True)
            torch.autograd.backward(made, [leaf.grad for leaf in leaves])
        for _, leaf in reached:  # prompts outlive this step
            leaf.grad = None
        self._presented = []

    def _recorded(self, inputs: Sequence[Tensor]) -> Captured | None:
        """The pass of these shapes: recorded when they come again, after a step without."""
        if self._passes is None:
            return None
        key = tuple(tensor.shape for tensor in inputs)
        if key not in self._seen:
            self._seen.add(key)
            return None
        with tf32(self._tf32):
            captured = self._passes.get(key)
            return captured or self._passes.capture(key, inputs, self.module, self._learn)

    def _learn(self, inputs: Sequence[Tensor], made: Tensor, gradient: Tensor) -> None:
        """From the messages' gradient to the weights, with the arm's loss beside the answer's."""
        roots, gradients = [made], [gradient]
        if self.arm.loss is not None:
            beside = self.arm.loss(self.setup, list(made))
            if beside.requires_grad:  # a batch of one row has no other to differ from
                roots, gradients = [made, beside], [gradient, torch.ones_like(beside)]
        made_of = torch.autograd.grad(roots, self.parameters, gradients, allow_unused=True)
        for parameter, its in zip(self.parameters, made_of, strict=True):
            if parameter.grad is None:
                parameter.grad = its
            elif its is not None:  # the receiver's own pass used it too
                parameter.grad += its
        self._step()

    def _step(self) -> None:
        """AdamW on the gradients, scaled so that their norm is at most `clip_norm`."""
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        # The optimiser divides by it as it reads them, which saves a pass over all gradients.
        self.optimizer.grad_scale = (norm / self._clip_norm).clamp(min=1.0)  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Within, products of float32 matrices on a GPU are in TF32 where that is allowed."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
