"""A frozen causal model that reads prompts and answers: scoring labels, writing, hidden states.

Prompts are sequences of token ids and embeddings, left-padded, so that every row's answer begins
at the same position. Shapes: B rows, T tokens, V vocabulary, L labels, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from lwspec.errors import ModelError
from lwspec.kernels.message import Prompt


@dataclass(frozen=True)
class Padded:
    """Prompts side by side: embeddings [B, T, W], mask [B, T], positions [B, T]."""

    embeds: Tensor
    mask: Tensor
    positions: Tensor


@dataclass(frozen=True)
class Answers:
    """What a model says after some prompts."""

    label_logprobs: Tensor
    """[B, L]: log-probability of each label, summed over its tokens."""
    first_token: Tensor
    """[B]: the most probable first token."""
    written: list[str] | None
    """Greedily decoded text, up to the end token; None where none was asked for."""


class _StopForward(Exception):
    """Raised inside a forward pass once the wanted layer has been seen."""


class Reader:
    """A frozen model with its tokenizer, on one device."""

    def __init__(self, model: Any, tokenizer: Any, device: torch.device) -> None:
        self.model = model.to(device).eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.device = device
        self.embedding = self.model.get_input_embeddings()
        self.width: int = self.embedding.embedding_dim
        if tokenizer.eos_token_id is None:
            raise ModelError("the tokenizer has no end-of-text token, so no answer could end")
        self.eos: int = tokenizer.eos_token_id
        self.bos: list[int] = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]

    @staticmethod
    def load(path: str | Path, dtype: str, revision: str | None, device: torch.device) -> Reader:
        """Load a model folder or hub id. Raises ModelError with the remedy."""
        try:
            tokenizer = AutoTokenizer.from_pretrained(path, revision=revision or "main")
            model = AutoModelForCausalLM.from_pretrained(
                path, revision=revision or "main", dtype=getattr(torch, dtype)
            )
        except (OSError, ValueError, SafetensorError) as error:
            first = str(error).strip().splitlines()[0]
            raise ModelError(
                f"cannot load the model: {first}",
                where=str(path),
                remedy="check the path; for a hub model, the network and `hf auth login`",
            ) from None
        return Reader(model, tokenizer, device)

    def embedding_rms(self) -> float:
        """Median over the vocabulary of the token embeddings' root mean square."""
        weight = self.embedding.weight.float()
        return float(weight.pow(2).mean(1).sqrt().median())

    def encode(self, text: str, last_tokens: int | None = None) -> list[int]:
        """Beginning-of-text token and the text's tokens, or only its last ones."""
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        return [*self.bos, *(ids if last_tokens is None else ids[-last_tokens:])]

    def first_tokens(self, text: str, count: int) -> str:
        """The text of the first `count` tokens."""
        ids = self.tokenizer.encode(text, add_special_tokens=False)[:count]
        return str(self.tokenizer.decode(ids))

    def answer_ids(self, before: str, answer: str) -> list[int]:
        """Token ids of `answer` where it follows `before`.

        Raises ModelError where the tokenizer merges the two, so that no boundary exists.
        """
        head = self.tokenizer.encode(before, add_special_tokens=False)
        whole = self.tokenizer.encode(before + answer, add_special_tokens=False)
        if whole[: len(head)] != head or len(whole) == len(head):
            raise ModelError(
                f"the tokenizer merges {answer!r} with the end of {before!r}",
                remedy="begin the task's `answer` with a space, or end the prompt with ':'",
            )
        return [int(token) for token in whole[len(head) :]]

    def pad(self, prompts: Sequence[Prompt], tails: Sequence[Sequence[int]] = ()) -> Padded:
        """Left-pad prompts, each with a tail of token ids (its answer) where one is given."""
        segments = [
            [*prompt, *([tails[row]] if tails else [])] for row, prompt in enumerate(prompts)
        ]
        rows = [torch.cat([self._embed(part) for part in parts]) for parts in segments]
        longest = max(len(row) for row in rows)
        embeds = torch.stack([functional.pad(row, (0, 0, longest - len(row), 0)) for row in rows])
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        mask = (torch.arange(longest, device=self.device) >= longest - lengths[:, None]).long()
        return Padded(embeds, mask, (mask.cumsum(1) - 1).clamp(min=0))

    def _embed(self, part: Sequence[int] | Tensor) -> Tensor:
        if isinstance(part, Tensor):
            return part.to(device=self.device, dtype=self.embedding.weight.dtype)
        ids = torch.tensor(list(part), dtype=torch.long, device=self.device)
        embedded: Tensor = self.embedding(ids)
        return embedded

    def answer_loss(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> Tensor:
        """Mean cross-entropy of the answers' tokens; gradients reach the prompts' embeddings."""
        padded = self.pad(prompts, answers)
        longest = max(len(answer) for answer in answers)
        logits_BTV = self.model(
            inputs_embeds=padded.embeds,
            attention_mask=padded.mask,
            position_ids=padded.positions,
            use_cache=False,
            logits_to_keep=longest + 1,
        ).logits[:, :-1]
        targets = torch.tensor(
            [[-100] * (longest - len(answer)) + list(answer) for answer in answers],
            device=self.device,
        )
        return functional.cross_entropy(
            logits_BTV.float().flatten(0, 1), targets.flatten(), ignore_index=-100
        )

    @torch.no_grad()
    def answer(
        self, prompts: Sequence[Prompt], labels: Sequence[Sequence[int]], write_tokens: int = 0
    ) -> Answers:
        """Score every label in full after each prompt, and write up to `write_tokens` greedily."""
        padded = self.pad(prompts)
        first = self.model(
            inputs_embeds=padded.embeds,
            attention_mask=padded.mask,
            position_ids=padded.positions,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = first.past_key_values
        next_BV = first.logits[:, -1].float().log_softmax(-1)
        scores = [self._score(label, next_BV, cache, padded) for label in labels]
        written = None
        if write_tokens:
            written = self._write(next_BV.argmax(-1), cache, padded, write_tokens)
        stacked = torch.stack(scores, 1) if scores else next_BV.new_zeros(len(next_BV), 0)
        return Answers(stacked, next_BV.argmax(-1), written)

    def _score(self, label: Sequence[int], next_BV: Tensor, cache: Any, padded: Padded) -> Tensor:
        """Log-probability [B] of a label's tokens; the cache is left as it was found."""
        score = next_BV[:, label[0]]
        if len(label) == 1:
            return score
        rows = len(next_BV)
        fed = torch.tensor([label[:-1]], device=self.device).expand(rows, -1)
        logits = self._continue(fed, cache, padded).float().log_softmax(-1)
        rest = torch.tensor([label[1:]], device=self.device).expand(rows, -1)
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

    def _write(self, token_B: Tensor, cache: Any, padded: Padded, most: int) -> list[str]:
        """Greedy continuation, cut at the end token."""
        tokens = [token_B]
        ended = token_B == self.eos
        while len(tokens) < most and not bool(ended.all()):
            logits = self._continue(tokens[-1][:, None], cache, padded)
            tokens.append(logits[:, -1].argmax(-1))
            ended = ended | (tokens[-1] == self.eos)
        return [self._text(row) for row in torch.stack(tokens, 1).tolist()]

    def _text(self, ids: list[int]) -> str:
        kept = ids[: ids.index(self.eos)] if self.eos in ids else ids
        return str(self.tokenizer.decode(kept))

    @torch.no_grad()
    def write(self, prompts: Sequence[Prompt], most: int) -> list[str]:
        """Greedy text of at most `most` tokens after each prompt."""
        written = self.answer(prompts, [[self.eos]], write_tokens=most).written
        assert written is not None
        return written

    @torch.no_grad()
    def hidden_states(self, prompts: Sequence[Prompt], layer: int) -> list[Tensor]:
        """States [tokens, width] of each prompt after `layer` blocks; nothing above is run.

        Layer 0 is the embeddings; the last layer's states have passed the final norm, as in
        transformers' `hidden_states`.
        """
        blocks = self._blocks()
        if layer > len(blocks):
            raise ModelError(
                f"layer {layer} is asked for; the model has {len(blocks)}",
                remedy=f"set layer to at most {len(blocks)}",
            )
        padded = self.pad(prompts)
        states = self._run_to(layer, blocks, padded)
        lengths = padded.mask.sum(1).tolist()
        return [row[-length:] for row, length in zip(states, lengths, strict=True)]

    def _run_to(self, layer: int, blocks: Any, padded: Padded) -> Tensor:
        arguments = {
            "inputs_embeds": padded.embeds,
            "attention_mask": padded.mask,
            "position_ids": padded.positions,
            "use_cache": False,
        }
        if layer == len(blocks):
            base = getattr(self.model, self.model.base_model_prefix)
            last: Tensor = base(**arguments).last_hidden_state
            return last
        seen: list[Tensor] = []

        def stop(module: Any, args: Any, kwargs: Any) -> None:
            seen.append(args[0] if args else kwargs["hidden_states"])
            raise _StopForward

        hook = blocks[layer].register_forward_pre_hook(stop, with_kwargs=True)
        try:
            self.model(**arguments)
        except _StopForward:
            pass
        finally:
            hook.remove()
        return seen[0]

    def _blocks(self) -> Any:
        """The list of decoder blocks, whatever the family calls it."""
        depth = self.model.config.get_text_config().num_hidden_layers
        for module in self.model.modules():
            if isinstance(module, torch.nn.ModuleList) and len(module) == depth:
                return module
        raise ModelError(f"no list of {depth} blocks was found in {type(self.model).__name__}")
