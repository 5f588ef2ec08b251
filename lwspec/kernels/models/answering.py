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
from lwspec.kernels.models.reader import Padded, Reader


@dataclass(frozen=True)
class Started:
    """Prompts that were read: the KV cache, which tokens count [B, P + T], and the next [B]."""

    cache: DynamicCache
    mask: Tensor
    next_B: Tensor


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
    cache = reader.prefix(padded.prefix).cache(len(prompts))
    fed = [list(label[:-1]) for label in labels]
    logits = _read(reader, padded, cache, fed)
    scores = _scores(logits, labels)
    first = logits[:, 0].argmax(-1)
    written = None
    if write_tokens:
        cache.crop(-sum(map(len, fed)))
        started = Started(cache, padded.whole_mask, first)
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
        positions = torch.cat([positions, padded.whole_mask.sum(1, keepdim=True) + offsets], 1)
        numbers = [number for number, label in enumerate(fed) for _ in label]
        mask = reader.mask(padded, positions, numbers)
    logits: Tensor = reader.model(
        inputs_embeds=embeds,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1 + len(tokens),
    ).logits
    return logits.float()


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
    """Read the prompts, and keep what the next token is computed from."""
    padded = reader.pad(prompts, share=True)
    cache = reader.prefix(padded.prefix).cache(len(prompts))
    first = _read(reader, padded, cache, [])[:, 0].argmax(-1)
    return Started(cache, padded.whole_mask, first)


@torch.no_grad()
def go_on(reader: Reader, started: Started, most: int, *, stop_at_end: bool = True) -> Tensor:
    """Greedy token ids [B, written]: until every row has ended, or `most` in any case."""
    tokens, mask = [started.next_B], started.mask
    positions = mask.sum(1, keepdim=True)
    ended = tokens[0] == reader.eos
    while len(tokens) < most and not (stop_at_end and bool(ended.all())):
        mask = functional.pad(mask, (0, 1), value=1)
        logits = reader.model(
            input_ids=tokens[-1][:, None],
            attention_mask=mask,
            position_ids=positions,
            past_key_values=started.cache,
            use_cache=True,
        ).logits
        positions = positions + 1
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
