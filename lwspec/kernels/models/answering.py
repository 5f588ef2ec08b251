"""What a model says after some prompts: its labels scored in full, and text written greedily.

Prompts and all labels go through the model in one pass, in which labels do not see one another.
Shapes: B rows, T tokens, P tokens of the common prefix, F tokens fed of all labels, V vocabulary,
L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache

from lwspec.kernels.message import Prompt
from lwspec.kernels.models import decoding
from lwspec.kernels.models.decoding import Started
from lwspec.kernels.models.injected import injecting
from lwspec.kernels.models.reader import Padded, Reader


@dataclass(frozen=True)
class Answers:
    """What a model says after some prompts."""

    label_logprobs: Tensor
    """[B, L]: log-probability of each label, summed over its tokens."""
    first_token: Tensor
    """[B]: the most probable first token."""
    written: list[str] | None
    """Greedily decoded text, up to the end token; None where none was asked for."""


@torch.no_grad()
def answer(
    reader: Reader,
    prompts: Sequence[Prompt],
    labels: Sequence[Sequence[int]],
    write_tokens: int = 0,
) -> Answers:
    """Score every label in full after each prompt, and write up to `write_tokens` greedily."""
    padded = reader.pad(prompts, share=True)
    cache = reader.cache(padded.prefix, len(prompts))
    fed = [list(label[:-1]) for label in labels] if reader.by_position else []
    logits = _read(reader, padded, cache, fed)
    apart = labels and not reader.by_position
    scores = _scores_apart(reader, prompts, labels) if apart else _scores(logits, labels)
    first = logits[:, 0].argmax(-1)
    written = None
    if write_tokens:
        cache.crop(-sum(map(len, fed)))
        started = Started(padded, cache, first)
        written = texts(reader, go_on(reader, started, write_tokens))
    return Answers(scores, first, written)


def _read(
    reader: Reader, padded: Padded, cache: DynamicCache, fed: Sequence[Sequence[int]]
) -> Tensor:
    """Logits [B, 1 + F, V] in float32: after the prompts, and after each token fed behind them."""
    tokens = [token for label in fed for token in label]
    embeds, positions, mask = padded.embeds, padded.positions, reader.mask(padded)
    if tokens:
        embeds = torch.cat([embeds, reader.embed(tokens).expand(len(embeds), -1, -1)], 1)
        offsets = reader.tensor([place for label in fed for place in range(len(label))])
        behind = padded.next_positions + offsets
        numbers = [number for number, label in enumerate(fed) for _ in label]
        mask = reader.mask(padded, behind, numbers)
        positions = torch.cat([positions, behind], 1)
    with injecting(reader.model, padded.injected):
        logits: Tensor = reader.model(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1 + len(tokens),
        ).logits
    return logits.float()


def _scores_apart(
    reader: Reader, prompts: Sequence[Prompt], labels: Sequence[Sequence[int]]
) -> Tensor:
    """The same scores where labels cannot be told apart by a mask: a pass for each label."""
    scores = []
    for label in labels:
        padded = reader.pad(prompts, [label[:-1]] * len(prompts))
        with injecting(reader.model, padded.injected):
            logits = reader.model(
                inputs_embeds=padded.embeds,
                attention_mask=padded.mask,
                position_ids=padded.positions,
                use_cache=False,
                logits_to_keep=len(label),
            ).logits
        tokens = reader.tensor([label]).expand(len(prompts), -1)[..., None]
        scores.append(logits.float().log_softmax(-1).gather(-1, tokens)[..., 0].sum(1))
    return torch.stack(scores, 1)


def _scores(logits: Tensor, labels: Sequence[Sequence[int]]) -> Tensor:
    """Log-probability [B, L] of each label's tokens."""
    if not labels:
        return logits.new_zeros(len(logits), 0)
    places, after = [], 1
    for label in labels:
        places += [0, *range(after, after + len(label) - 1)]
        after += len(label) - 1
    tokens = [token for label in labels for token in label]
    found = logits[:, places, tokens] - logits.logsumexp(-1)[:, places]
    of_each = torch.split(found, [*map(len, labels)], 1)
    return torch.stack([of_one.sum(1) for of_one in of_each], 1)


@torch.no_grad()
def start(reader: Reader, prompts: Sequence[Prompt]) -> Started:
    """Read the prompts in full, and keep what the next token is computed from."""
    padded = reader.pad(prompts)
    cache = reader.cache((), len(prompts))
    return Started(padded, cache, _read(reader, padded, cache, [])[:, 0].argmax(-1))


@torch.no_grad()
def go_on(reader: Reader, started: Started, most: int, *, stop_at_end: bool = True) -> Tensor:
    """Greedy token ids [B, written]: until every row has ended, or `most` in any case."""
    tokens, padded = [started.next_B], started.padded
    if decoding.records(reader, padded):
        return decoding.go_on(reader, started, most, stop_at_end)
    counts, keys = padded.whole_mask, padded.whole_positions
    position = padded.next_positions
    injected = None if padded.injected is None else padded.injected.later
    reader.check_window(injected, position + most - 2)  # the last token written is not read
    ended = tokens[0] == reader.eos
    while len(tokens) < most and not (stop_at_end and bool(ended.all())):
        counts, keys = functional.pad(counts, (0, 1), value=1), torch.cat([keys, position], 1)
        # Padding behind a prefix would count as distance in the model's own way.
        own = padded.prefix or injected is not None
        mask = reader.causal_mask(counts, keys, position) if own else counts
        with injecting(reader.model, injected):
            logits = reader.model(
                input_ids=tokens[-1][:, None],
                attention_mask=mask,
                position_ids=position,
                past_key_values=started.cache,
                use_cache=True,
            ).logits
        position = position + 1
        tokens.append(logits[:, -1].argmax(-1))
        ended = ended | (tokens[-1] == reader.eos)
    return torch.stack(tokens, 1)


def texts(reader: Reader, ids_BT: Tensor) -> list[str]:
    """What token ids say, up to the end token."""
    return [_text(reader, row) for row in ids_BT.tolist()]


def _text(reader: Reader, ids: list[int]) -> str:
    kept = ids[: ids.index(reader.eos)] if reader.eos in ids else ids
    return str(reader.tokenizer.decode(kept))


def write(reader: Reader, prompts: Sequence[Prompt], most: int) -> list[str]:
    """Greedy text of at most `most` tokens after each prompt."""
    return texts(reader, go_on(reader, start(reader, prompts), most))
