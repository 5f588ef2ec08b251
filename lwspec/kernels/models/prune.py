"""Pruning a text by a language model's perplexity: the least expected tokens are kept.

Source: Selective Context (Li et al. 2023) and the token-level stage of LLMLingua (Jiang et al.
2023), which keep tokens of high self-information under a small model. Here the frozen sender is
that model, and the number of tokens is given instead of a rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lwspec.kernels.models.reader import Reader


@torch.no_grad()
def surprisals(reader: Reader, texts: Sequence[Sequence[int]]) -> list[Tensor]:
    """-log p of each token given those before it, in nats: [tokens] for each text.

    Where a model has no beginning-of-text token, its first token is as surprising as a uniform
    guess.
    """
    prompts = [[[*reader.bos, *ids]] for ids in texts]
    padded = reader.pad(prompts)
    logits_BTV = reader.model(
        inputs_embeds=padded.embeds,
        attention_mask=padded.mask,
        position_ids=padded.positions,
        use_cache=False,
    ).logits
    found = []
    for row, ids in enumerate(texts):
        known = ids if reader.bos else ids[1:]
        logits_TV = logits_BTV[row, -len(known) - 1 : -1].float()
        wanted = torch.tensor(list(known), dtype=torch.long, device=logits_TV.device)
        losses = torch.nn.functional.cross_entropy(logits_TV, wanted, reduction="none").cpu()
        first = torch.full((len(ids) - len(known),), math.log(logits_BTV.shape[-1]))
        found.append(torch.cat([first, losses]))
    return found


def prune(reader: Reader, texts: Sequence[str], keep: int, most: int) -> list[str]:
    """Each text's `keep` most surprising tokens in their order, out of its first `most` tokens."""
    ids = [reader.encode(text)[len(reader.bos) :][:most] for text in texts]
    kept = []
    for row, losses in zip(ids, surprisals(reader, ids), strict=True):
        places = losses.topk(min(keep, len(row))).indices.sort().values.tolist()
        kept.append(str(reader.tokenizer.decode([row[place] for place in places])))
    return kept
