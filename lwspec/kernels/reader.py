"""A frozen causal model that reads prompts and answers: learning, scoring, writing.

Prompts are sequences of token ids and embeddings, left-padded, so that every row's answer begins
at the same position. Shapes: B rows, T tokens, V vocabulary, L labels, W width.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from lwspec.errors import ModelError, NetworkError
from lwspec.kernels.message import Prompt
from lwspec.kernels.network import unreachable

TEXTS_KEPT = 4096
"""Texts whose tokens are kept: queries and answers come again with every batch."""


@dataclass(frozen=True)
class Padded:
    """Prompts side by side: embeddings [B, T, W], mask [B, T], positions [B, T]."""

    embeds: Tensor
    mask: Tensor
    positions: Tensor


@dataclass(frozen=True)
class Started:
    """Prompts that were read: the KV cache, and the next token's log-probabilities [B, V]."""

    padded: Padded
    cache: Any
    next_BV: Tensor


@dataclass(frozen=True)
class Answers:
    """What a model says after some prompts."""

    label_logprobs: Tensor
    """[B, L]: log-probability of each label, summed over its tokens."""
    first_token: Tensor
    """[B]: the most probable first token."""
    written: list[str] | None
    """Greedily decoded text, up to the end token; None where none was asked for."""


class Reader:
    """A frozen model with its tokenizer, on one device."""

    def __init__(self, model: Any, tokenizer: Any, device: torch.device) -> None:
        spread = hasattr(model, "hf_device_map")
        self.model = (model if spread else model.to(device)).eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.device = device
        if "inputs_embeds" not in inspect.signature(self.model.forward).parameters:
            raise ModelError(
                f"{type(model).__name__} takes no inputs_embeds, so no soft token could reach it",
                remedy="choose a decoder that transformers runs on inputs_embeds",
            )
        self.embedding = self.model.get_input_embeddings()
        self.width: int = self.embedding.embedding_dim
        self.context: int | None = getattr(
            model.config.get_text_config(), "max_position_embeddings", None
        )
        if tokenizer.eos_token_id is None:
            raise ModelError("the tokenizer has no end-of-text token, so no answer could end")
        self.eos: int = tokenizer.eos_token_id
        self._ids = lru_cache(TEXTS_KEPT)(
            lambda text: tuple(tokenizer.encode(text, add_special_tokens=False))
        )
        self.bos: list[int] = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]

    @staticmethod
    def load(path: str | Path, dtype: str, revision: str | None, device: torch.device) -> Reader:
        """Load a model folder or hub id. Raises ModelError or NetworkError.

        Where the process sees several GPUs, accelerate spreads the model's layers over them.
        """
        several = device.type == "cuda" and torch.cuda.device_count() > 1
        try:
            tokenizer = AutoTokenizer.from_pretrained(path, revision=revision or "main")
            model = AutoModelForCausalLM.from_pretrained(
                path,
                revision=revision or "main",
                dtype=getattr(torch, dtype),
                device_map="auto" if several else None,
            )
        except (OSError, ValueError, SafetensorError) as error:
            first = str(error).strip().splitlines()[0]
            kind = NetworkError if unreachable(error) else ModelError
            raise kind(
                f"cannot load the model: {first}",
                where=str(path),
                remedy="check the path; for a hub model, the network and `hf auth login`",
            ) from None
        return Reader(model, tokenizer, device)

    @cached_property
    @torch.no_grad()
    def embedding_rms(self) -> float:
        """Median over the vocabulary of the root mean square of what the model is run on.

        Taken through the embedding module, since some families scale its rows (Gemma).
        """
        ids = torch.arange(self.embedding.num_embeddings, device=self.device)
        parts = (ids[start : start + 8192] for start in range(0, len(ids), 8192))
        rms = [self.embedding(part).float().pow(2).mean(1).sqrt() for part in parts]
        return float(torch.cat(rms).median())

    def encode(self, text: str, last_tokens: int | None = None) -> list[int]:
        """Beginning-of-text token and the text's tokens, or only its last ones."""
        ids = self._ids(text)
        return [*self.bos, *(ids if last_tokens is None else ids[-last_tokens:])]

    def first_tokens(self, text: str, count: int) -> str:
        """The text of the first `count` tokens."""
        return str(self.tokenizer.decode(self._ids(text)[:count]))

    def answer_ids(self, before: str, answer: str) -> list[int]:
        """Token ids of `answer` where it follows `before`.

        Raises ModelError where the tokenizer merges the two, so that no boundary exists.
        """
        head, whole = self._ids(before), self._ids(before + answer)
        if whole[: len(head)] != head or len(whole) == len(head):
            raise ModelError(
                f"the tokenizer merges {answer!r} with the end of {before!r}",
                remedy="begin the task's `answer` with a space, or end the prompt with ':'",
            )
        return [int(token) for token in whole[len(head) :]]

    def pad(self, prompts: Sequence[Prompt], tails: Sequence[Sequence[int]] = ()) -> Padded:
        """Left-pad prompts, each with a tail of token ids (its answer) where one is given.

        All ids are embedded in one lookup, and all soft tokens put in place in one copy.
        """
        rows = [[*prompt, *([tails[row]] if tails else [])] for row, prompt in enumerate(prompts)]
        lengths = [sum(map(len, parts)) for parts in rows]
        longest = max(lengths)
        if self.context is not None and longest > self.context:
            raise ModelError(
                f"a prompt of {longest} tokens is longer than the model's context, {self.context}",
                remedy="lower max_prompt_tokens, or the number of soft tokens",
            )
        ids: list[int] = []
        soft: list[Tensor] = []
        places: list[int] = []
        for parts, length in zip(rows, lengths, strict=True):
            ids += [0] * (longest - length)
            for part in parts:
                if isinstance(part, Tensor):
                    soft.append(part)
                    places += range(len(ids), len(ids) + len(part))
                    ids += [0] * len(part)
                else:
                    ids += part
        starts = longest - torch.tensor(lengths, device=self.device)
        mask = (torch.arange(longest, device=self.device) >= starts[:, None]).long()
        flat = self.embedding(torch.tensor(ids, device=self.device))
        flat = flat.masked_fill(mask.view(-1, 1) == 0, 0.0)
        if soft:
            where = torch.tensor(places, device=self.device)
            flat = flat.index_copy(0, where, torch.cat(soft).to(self.device, flat.dtype))
        embeds = flat.view(len(rows), longest, -1)
        return Padded(embeds, mask, (mask.cumsum(1) - 1).clamp(min=0))

    def embed(self, ids: Sequence[int]) -> Tensor:
        """What the model is run on for token ids: [tokens, width]."""
        embedded: Tensor = self.embedding(torch.tensor(list(ids), device=self.device))
        return embedded

    def answer_logits(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        """Logits [B, T, V] in float32 over the answers' tokens, and the tokens [B, T].

        Answers are aligned at their ends; what stands before a shorter one is -100 among the
        tokens. Gradients reach the prompts' embeddings.
        """
        padded = self.pad(prompts, answers)
        longest = max(len(answer) for answer in answers)
        logits_BTV = self.model(
            inputs_embeds=padded.embeds,
            attention_mask=padded.mask,
            position_ids=padded.positions,
            use_cache=False,
            logits_to_keep=longest + 1,
        ).logits[:, :-1]
        tokens_BT = torch.tensor(
            [[-100] * (longest - len(answer)) + list(answer) for answer in answers],
            device=self.device,
        )
        return logits_BTV.float(), tokens_BT

    @torch.no_grad()
    def start(self, prompts: Sequence[Prompt]) -> Started:
        """Read the prompts, and keep what the next token is computed from."""
        padded = self.pad(prompts)
        first = self.model(
            inputs_embeds=padded.embeds,
            attention_mask=padded.mask,
            position_ids=padded.positions,
            use_cache=True,
            logits_to_keep=1,
        )
        return Started(padded, first.past_key_values, first.logits[:, -1].float().log_softmax(-1))

    @torch.no_grad()
    def answer(
        self, prompts: Sequence[Prompt], labels: Sequence[Sequence[int]], write_tokens: int = 0
    ) -> Answers:
        """Score every label in full after each prompt, and write up to `write_tokens` greedily."""
        started = self.start(prompts)
        next_BV = started.next_BV
        scores = [self._score(label, started) for label in labels]
        written = None
        if write_tokens:
            written = [self._text(row) for row in self.go_on(started, write_tokens).tolist()]
        stacked = torch.stack(scores, 1) if scores else next_BV.new_zeros(len(next_BV), 0)
        return Answers(stacked, next_BV.argmax(-1), written)

    def _score(self, label: Sequence[int], started: Started) -> Tensor:
        """Log-probability [B] of a label's tokens; the cache is left as it was found."""
        score = started.next_BV[:, label[0]]
        if len(label) == 1:
            return score
        rows = len(score)
        fed = torch.tensor([label[:-1]], device=self.device).expand(rows, -1)
        # A sliding window forgets, so its cache cannot be cropped back: a copy is fed instead.
        slides = any(getattr(layer, "is_sliding", False) for layer in started.cache.layers)
        cache = copy.deepcopy(started.cache) if slides else started.cache
        logits = self._continue(fed, cache, started.padded).float().log_softmax(-1)
        rest = torch.tensor([label[1:]], device=self.device).expand(rows, -1)
        if not slides:
            cache.crop(-fed.shape[1])
        return score + logits.gather(-1, rest[..., None])[..., 0].sum(1)

    def _continue(self, ids_BT: Tensor, cache: Any, padded: Padded) -> Tensor:
        """Logits [B, T, V] after feeding tokens behind what the cache holds."""
        held = cache.get_seq_length()
        rows, new = ids_BT.shape
        grown = functional.pad(padded.mask, (0, held - padded.mask.shape[1] + new), value=1)
        start = padded.mask.sum(1, keepdim=True) + held - padded.mask.shape[1]
        logits: Tensor = self.model(
            input_ids=ids_BT,
            attention_mask=grown,
            position_ids=start + torch.arange(new, device=self.device),
            past_key_values=cache,
            use_cache=True,
        ).logits
        return logits

    @torch.no_grad()
    def go_on(self, started: Started, most: int, *, stop_at_end: bool = True) -> Tensor:
        """Greedy token ids [B, written]: until every row has ended, or `most` in any case."""
        tokens = [started.next_BV.argmax(-1)]
        ended = tokens[0] == self.eos
        while len(tokens) < most and not (stop_at_end and bool(ended.all())):
            logits = self._continue(tokens[-1][:, None], started.cache, started.padded)
            tokens.append(logits[:, -1].argmax(-1))
            ended = ended | (tokens[-1] == self.eos)
        return torch.stack(tokens, 1)

    def _text(self, ids: list[int]) -> str:
        kept = ids[: ids.index(self.eos)] if self.eos in ids else ids
        return str(self.tokenizer.decode(kept))

    def write(self, prompts: Sequence[Prompt], most: int) -> list[str]:
        """Greedy text of at most `most` tokens after each prompt."""
        return [self._text(row) for row in self.go_on(self.start(prompts), most).tolist()]
