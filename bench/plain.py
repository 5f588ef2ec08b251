"""The experiments as they are plainly written with transformers: what ours are held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from pair import BATCH, TASK, Size, make_bridge
from torch import Tensor, nn
from torch.nn import functional

from lwspec.kernels.data.rows import Row
from lwspec.kernels.models.reader import Reader

NEW_TOKENS = 10


def plain_step(
    scale: Size, sender: Reader, receiver: Reader, rows: Sequence[Row]
) -> Callable[[], None]:
    """A training step with everything anew for each batch, and logits at all positions."""
    bridge = make_bridge(scale, receiver, torch.bfloat16)
    optimizer = torch.optim.AdamW(bridge.parameters(), lr=1e-4, weight_decay=0.01)
    chosen = rows[:BATCH]

    def step() -> None:
        soft = bridge(*_states(scale, sender, [row.context for row in chosen]))
        said = [receiver.tokenizer.encode(row.target) + [receiver.eos] for row in chosen]
        answers = torch.tensor(said, device=receiver.device)
        embeds = torch.cat([_query(receiver, len(chosen)), soft, receiver.embedding(answers)], 1)
        logits = receiver.model(inputs_embeds=embeds, use_cache=False).logits
        start = embeds.shape[1] - answers.shape[1] - 1
        loss = functional.cross_entropy(
            logits[:, start:-1].float().flatten(0, 1), answers.flatten()
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(bridge.parameters(), 1.0)
        optimizer.step()
        loss.item()

    return step


def plain_item(
    scale: Size, sender: Reader, receiver: Reader, rows: Sequence[Row]
) -> Callable[[], None]:
    """One test item: the sender, the bridge, and ten tokens written one after the other."""
    bridge = make_bridge(scale, receiver, torch.bfloat16)
    place = 0

    @torch.no_grad()
    def item() -> None:
        nonlocal place
        soft = bridge(*_states(scale, sender, [rows[place % len(rows)].context]))
        place += 1
        embeds = torch.cat([_query(receiver, 1), soft], 1)
        written = receiver.model.generate(
            inputs_embeds=embeds, attention_mask=torch.ones_like(embeds[..., 0]).long(),
            max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False,
            pad_token_id=receiver.eos,
        )  # fmt: skip
        receiver.tokenizer.decode(written[0].tolist())

    return item


def _states(scale: Size, sender: Reader, texts: list[str]) -> tuple[Tensor, Tensor]:
    given = sender.tokenizer(texts, return_tensors="pt", padding=True).to(sender.device)
    with torch.no_grad():
        layers = sender.model(
            input_ids=given.input_ids, attention_mask=given.attention_mask,
            output_hidden_states=True,
        ).hidden_states  # fmt: skip
    return layers[scale.layer], given.attention_mask == 0


def _query(receiver: Reader, rows: int) -> Tensor:
    return receiver.embed(receiver.encode(str(TASK["query"]))).expand(rows, -1, -1)
