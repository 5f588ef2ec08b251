"""One pass of the frozen receiver over the batches of several fits: their losses and gradients.

The receiver has no weights to update, so that what each row's loss sends back reaches that row's
message alone: fits share the pass and nothing else.
"""

from __future__ import annotations

import traceback
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lwspec.kernels.message import Prompt
from lwspec.kernels.models.answer_logits import answer_logits
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.training.loss import Counts, batch_loss, separation


@dataclass(frozen=True)
class Ask:
    """A batch of a fit, or a part of one, as the receiver is asked about it."""

    reader: Reader
    prompts: Sequence[Prompt]
    answers: Sequence[Sequence[int]]
    counts: Counts
    """Of the whole batch."""
    train: Mapping[str, Any]
    teacher: Sequence[Prompt] | None
    """Prompts with the text itself, where the receiver that reads it is distilled."""
    leaves: Sequence[Tensor]
    """Where gradients collect: the messages, or what was presented of them, and weights that are
    used in the pass itself."""
    rows_at_once: int
    mismatched: Sequence[Prompt] | None = None
    """Prompts with other rows' messages, where answers under them shall differ."""
    separation: float = 0.0
    """How much that they differ is worth."""

    def part(self, number: int) -> Ask:
        """The rows that go through the receiver together in one round; none after the last."""
        rows = slice(number * self.rows_at_once, (number + 1) * self.rows_at_once)
        return replace(
            self,
            prompts=self.prompts[rows],
            answers=self.answers[rows],
            teacher=None if self.teacher is None else self.teacher[rows],
            mismatched=None if self.mismatched is None else self.mismatched[rows],
        )


@dataclass(frozen=True)
class Told:
    """What came of a question: the gradients lie at the prompts."""

    loss: Tensor
    """The answers' cross-entropy over the batch, where the receiver is."""
    rows_at_once: int
    """Fewer than were asked for where memory ran out."""


Steps: TypeAlias = Generator[Ask, Told, None]
"""Work that asks the receiver for gradients as it needs them."""


def answer(asked: Sequence[Ask], together: bool) -> tuple[list[Told | Exception], bool]:
    """Gradients for all, in one pass where `together`; and whether the next may be together.

    Where one pass fails, each is asked by itself: then only those that fail alone have failed, and
    where none does, together they need more memory than there is.
    """
    if together:
        try:
            made = zip(gradients(asked), asked, strict=True)
            return [Told(loss, ask.rows_at_once) for loss, ask in made], True
        except torch.OutOfMemoryError:
            print("lwspec: the receiver's memory does not hold all fits together")
            asked[0].reader.passes.drop()
            torch.cuda.empty_cache()
        except Exception:
            traceback.print_exc()  # for whom it comes again alone, it is the end
        for ask in asked:
            _forget(ask)
    told = [_alone(ask) for ask in asked]
    return told, together and (len(asked) == 1 or any(isinstance(t, Exception) for t in told))


def _alone(ask: Ask) -> Told | Exception:
    """Gradients for one, with half the rows at once as often as memory runs out."""
    while True:
        try:
            (loss,) = gradients([ask])
            return Told(loss, ask.rows_at_once)
        except torch.OutOfMemoryError as error:
            if ask.rows_at_once == 1:
                return error.with_traceback(None)  # whose frames hold the memory that others need
        except Exception as error:
            return error
        _forget(ask)
        ask.reader.passes.drop()
        torch.cuda.empty_cache()
        ask = replace(ask, rows_at_once=(ask.rows_at_once + 1) // 2)


def _forget(ask: Ask) -> None:
    """Drop the gradients that a pass left before it failed."""
    for tensor in ask.leaves:
        tensor.grad = None


def gradients(asked: Sequence[Ask]) -> Sequence[Tensor]:
    """Send the gradients of all the batches back to their prompts; each one's cross-entropy.

    All are of one reader. Raises torch.OutOfMemoryError, with gradients of some rows sent.
    """
    plain = torch.zeros(len(asked), device=asked[0].reader.device)
    rounds = max(-(-len(ask.answers) // ask.rows_at_once) for ask in asked)
    for number in range(rounds):
        parts = {place: ask.part(number) for place, ask in enumerate(asked)}
        parts = {place: part for place, part in parts.items() if part.answers}
        shares = losses(list(parts.values()))
        torch.stack([whole for whole, _ in shares]).sum().backward()  # type: ignore[no-untyped-call]
        for place, (_, cross_entropy) in zip(parts, shares, strict=True):
            plain[place] += cross_entropy
    return plain.unbind()


def losses(parts: Sequence[Ask]) -> list[tuple[Tensor, Tensor]]:
    """Each part's share of its batch's loss, and of its cross-entropy."""
    reader = parts[0].reader
    assert all(part.reader is reader for part in parts), "one pass is of one receiver"
    prompts = [prompt for part in parts for prompt in part.prompts]
    answers = [answer for part in parts for answer in part.answers]
    others = [prompt for part in parts for prompt in part.mismatched or ()]
    assert len(others) in (0, len(prompts)), "fits of one pass are told apart all or none"
    # In one pass, since a recorded one writes over what it made before.
    logits_BTV, tokens_BT = answer_logits(
        reader, [*prompts, *others], answers * (2 if others else 1)
    )
    logits_BTV, others_BTV = logits_BTV[: len(prompts)], logits_BTV[len(prompts) :]
    tokens_BT = tokens_BT[: len(prompts)]
    teachers = [prompt for part in parts for prompt in part.teacher or ()]
    assert len(teachers) in (0, len(prompts)), "fits of one pass distil all or none"
    teacher_BTV = None
    if teachers:
        with torch.no_grad():
            teacher_BTV, _ = answer_logits(reader, teachers, answers)
    shares, start = [], 0
    for part in parts:
        rows = slice(start, start + len(part.answers))
        start = rows.stop
        taught = None if teacher_BTV is None else teacher_BTV[rows]
        own = logits_BTV[rows]
        whole, plain = batch_loss(own, tokens_BT[rows], part.counts, part.train, taught)
        if others:
            apart = separation(own, others_BTV[rows], tokens_BT[rows], part.counts)
            whole = whole - part.separation * apart
        shares.append((whole, plain))
    return shares
