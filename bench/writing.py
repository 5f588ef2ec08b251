"""Tokens that the receiver writes behind prompts, plainly and by recorded steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from pair import Size, compiled_twin, linear_parameters, make_reader, make_rows
from timing import Rates, Say, median_ms

from lwspec.kernels.message import Prompt
from lwspec.kernels.models.answering import go_on, start
from lwspec.kernels.models.reader import Reader

ROWS, WRITTEN = 64, 32
"""Rows that are written behind at once, and tokens of each beside the one that reading gives."""
FEW = 16
"""Rows at once that round otherwise, in the plain way too."""


def time_writing(scale: Size, device: torch.device, rates: Rates, say: Say) -> None:
    """Tokens written by the receiver behind prompts that were read, plainly and recorded."""
    plain = make_reader(scale.receiver, device)
    compiled = compiled_twin(plain)
    prompts = [[plain.encode(row.context)] for row in make_rows()[:ROWS]]
    steps = [writing(reader, prompts) for reader in (plain, compiled)]
    times = median_ms(steps, scale.repeats // 2)
    floor = WRITTEN * 1000 * 2 * linear_parameters(plain) / rates.memory
    say(f"{WRITTEN} tokens behind prompts of {len(prompts[0][0])}, {len(prompts)} rows at once.\n")
    say("| writing | ms a token | tokens a second | over floor |")
    say("|---|---|---|---|")
    for what, ms in zip(("plain", "recorded", "floor"), (*times, floor), strict=True):
        rate = 1000 * WRITTEN * len(prompts) / ms
        say(f"| {what} | {ms / WRITTEN:.2f} | {rate:,.0f} | {ms / floor:.2f} |")
    few = writing(plain, prompts[:FEW])()
    many, recorded = (step() for step in steps)
    say(f"\nIn bfloat16 {alike(many, recorded)} write the same;")
    say(f"plainly, with {FEW} rows at once instead of {len(prompts)}, {alike(few, many[:FEW])}.")


def alike(one: torch.Tensor, other: torch.Tensor) -> str:
    """In how many rows the tokens [B, T] agree, the first ones and all of them."""
    same = one == other
    first, whole = int(same[:, :2].all(1).sum()), int(same.all(1).sum())
    return f"{first} of {len(same)} rows at first and {whole} to the end"


def writing(reader: Reader, prompts: Sequence[Prompt]) -> Callable[[], torch.Tensor]:
    """Writing so many tokens behind prompts that were read, again and again."""
    started = start(reader, prompts)
    read = started.cache.get_seq_length()

    def step() -> torch.Tensor:
        written = started.cache.get_seq_length() - read
        if written:  # by the plain way alone, the recorded one has keys and values of its own
            started.cache.crop(-written)
        return go_on(reader, started, 1 + WRITTEN, stop_at_end=False)

    return step
