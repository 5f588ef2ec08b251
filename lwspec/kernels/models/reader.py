"""A causal model with its tokenizer: what prompts are made of, and how they lie side by side.

Prompts are sequences of token ids and embeddings. What all rows begin with is read once; the rest
is left-padded, so that every row's answer begins at the same position. Shapes: B rows, T tokens,
P tokens of the common prefix, V vocabulary, W width.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any
from weakref import WeakMethod

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.utils.logging import disable_progress_bar

from lwspec.errors import CONVERT, ModelError, NetworkError
from lwspec.kernels.message import Cached, Graft, Prompt
from lwspec.kernels.models.captured import Kept
from lwspec.kernels.models.compiled import compile_blocks
from lwspec.kernels.models.injected import (
    Injected,
    cached_tokens,
    gather,
    refuse_forgotten,
)
from lwspec.kernels.models.masks import causal_mask
from lwspec.kernels.models.network import unreachable
from lwspec.kernels.models.origin import source
from lwspec.kernels.models.prefix import Prefix, common_prefix, without

TEXTS_KEPT = 4096
"""Texts whose tokens are kept: queries and answers come again with every batch."""
PREFIXES_KEPT = 8
"""Common beginnings of prompts whose keys and values are kept."""
ATTENTION = {"full_attention", "sliding_attention"}
"""Kinds of layers that keep keys and values alone."""


@dataclass(frozen=True)
class Padded:
    """Prompts side by side: embeddings [B, T, W], mask [B, T], positions [B, T].

    What stands before them in every row, `prefix`, is no part of the three but of the positions;
    neither are tokens that were read elsewhere, which are `injected`.
    """

    embeds: Tensor
    mask: Tensor
    positions: Tensor
    prefix: tuple[int, ...] = ()
    injected: Injected | None = None

    @property
    def whole_mask(self) -> Tensor:
        """Which tokens count, those of the prefix before the others: [B, P + T]."""
        return functional.pad(self.mask, (len(self.prefix), 0), value=1)

    @property
    def whole_positions(self) -> Tensor:
        """The positions of the prefix and of the others: [B, P + T]."""
        of_prefix = torch.arange(len(self.prefix), device=self.positions.device)
        return torch.cat([of_prefix.expand(len(self.positions), -1), self.positions], 1)

    @property
    def next_positions(self) -> Tensor:
        """The position of what follows each row: [B, 1]."""
        return self.positions[:, -1:] + 1


class Reader:
    """A frozen model with its tokenizer, on one device."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        device: torch.device,
        *,
        compiled: bool = False,
    ) -> None:
        spread = hasattr(model, "hf_device_map")
        self.model = (model if spread else model.to(device)).eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.device = device
        self.frozen = True
        """Until an arm puts weights of its own into the model."""
        self.compiled = compiled
        self.prefix = lru_cache(PREFIXES_KEPT)(partial(_read_by, WeakMethod(self._read)))
        self.passes: Kept[Any] = Kept()
        if "inputs_embeds" not in inspect.signature(self.model.forward).parameters:
            raise ModelError(
                f"{type(model).__name__} takes no inputs_embeds, so no soft token could reach it",
                remedy="choose a decoder that transformers runs on inputs_embeds",
            )
        kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
        self.by_position = (
            bool(getattr(model, "_supports_attention_backend", False)) and kinds <= ATTENTION
        )
        """Whether its layers see by position what a mask lets them see, and keep nothing else."""
        self.rotary = any("rotary" in name for name, _ in self.model.named_modules())
        """Whether its positions turn keys and queries, so that distances alone count."""
        if compiled and not self.by_position:
            raise ModelError(
                f"{type(model).__name__} has an attention of its own, which is not compiled",
                remedy="set resources.compile = false",
            )
        # A head that is given a stretch of each row would read its weights once for every row.
        self.model.get_output_embeddings().register_forward_pre_hook(_contiguous)
        if compiled:
            compile_blocks(self.model)
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
    def load(
        path: str | Path,
        dtype: str,
        revision: str | None,
        device: torch.device,
        *,
        compiled: bool = False,
        random_weights: int | None = None,
        remote_code: bool = False,
    ) -> Reader:
        """Load a model folder or hub id. Raises ModelError or NetworkError.

        With `random_weights`, a seed, only its architecture: see `untrained`. Where the process
        sees several GPUs, accelerate spreads a trained model's layers over them. Python code that
        comes with the model runs only with `remote_code`; weights that are pickles never load.
        """
        several = device.type == "cuda" and torch.cuda.device_count() > 1
        try:
            wanted = source(path, revision, remote_code)
            disable_progress_bar()  # type: ignore[no-untyped-call]  # a log is no terminal
            tokenizer = AutoTokenizer.from_pretrained(path, **wanted)
            if random_weights is not None:
                model = untrained(path, dtype, wanted, random_weights)
            else:
                model = AutoModelForCausalLM.from_pretrained(
                    path,
                    **wanted,
                    use_safetensors=True,
                    dtype=getattr(torch, dtype),
                    device_map="auto" if several else None,
                )
        except (OSError, ValueError, SafetensorError) as error:
            first = str(error).strip().splitlines()[0]
            kind = NetworkError if unreachable(error) else ModelError
            raise kind(
                f"cannot load the model: {first}",
                where=str(path),
                remedy=_remedy(str(error)),
            ) from None
        return Reader(model, tokenizer, device, compiled=compiled)

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

    def pad(
        self,
        prompts: Sequence[Prompt],
        tails: Sequence[Sequence[int]] = (),
        *,
        share: bool = False,
    ) -> Padded:
        """Left-pad prompts, each with a tail of token ids (its answer) where one is given.

        With `share`, what all prompts begin with is left out and named. All ids are embedded in
        one lookup, and all soft tokens put in place in one copy. Raises ModelError for prompts
        that are longer than the context, and for models that cannot be given keys and values.
        """
        shared = common_prefix(prompts) if share and self.frozen and self.by_position else ()
        elsewhere = [cached_tokens(prompt) for prompt in prompts]
        rests = [without(prompt, len(shared)) for prompt in prompts] if shared else prompts
        rows = [[*_read_here(rest), *(tails[n : n + 1])] for n, rest in enumerate(rests)]
        lengths = [sum(map(len, parts)) for parts in rows]
        longest = max(lengths)
        self._check_length(longest + len(shared) + max(elsewhere))
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
        starts = longest - self.tensor(lengths)
        mask = (torch.arange(longest, device=self.device) >= starts[:, None]).long()
        flat = self.embedding(self.tensor(ids))
        flat = flat.masked_fill(mask.view(-1, 1) == 0, 0.0)
        if soft:
            made = torch.cat(soft).to(self.device, flat.dtype)
            flat = flat.index_copy(0, self.tensor(places), made)
        embeds = flat.view(len(rows), longest, -1)
        before = len(shared) + self.tensor(elsewhere)[:, None]
        positions = before + (mask.cumsum(1) - 1).clamp(min=0)
        injected = gather(prompts, [longest - length for length in lengths])
        if injected is not None and injected.held and not self.by_position:
            raise ModelError(
                f"{type(self.model).__name__} does not see by position, so no keys can be given it",
                remedy="choose another receiver, or another arm",
            )
        return Padded(embeds, mask, positions, shared, injected)

    def _check_length(self, tokens: int) -> None:
        if self.context is not None and tokens > self.context:
            raise ModelError(
                f"a prompt of {tokens} tokens is longer than the model's context, {self.context}",
                remedy="lower max_prompt_tokens, or the number of soft tokens",
            )

    def mask(
        self, padded: Padded, fed_positions: Tensor | None = None, labels: Sequence[int] = ()
    ) -> Any:
        """Which token sees which: causal, tokens of labels fed behind apart from other labels'.

        `fed_positions` are theirs [B, F]. The model's own way where nothing stands before the
        padding, nothing is fed and nothing was read elsewhere. Raises ModelError for keys that
        were read elsewhere where a sliding window would forget them.
        """
        if not padded.prefix and fed_positions is None and padded.injected is None:
            return padded.mask
        queries, keys, counts = padded.positions, padded.whole_positions, padded.whole_mask
        if fed_positions is not None:
            queries, keys = (torch.cat([each, fed_positions], 1) for each in (queries, keys))
            counts = functional.pad(counts, (0, len(labels)), value=1)
        self.check_window(padded.injected, queries)
        return self.causal_mask(counts, keys, queries, labels)

    def check_window(self, injected: Injected | None, positions: Tensor) -> None:
        """Raise ModelError where tokens at these positions would forget keys they are given."""
        if injected is not None and injected.held:
            config = self.model.config.get_text_config()
            refuse_forgotten(config, injected, int(positions.max()) + 1)

    def causal_mask(
        self, counts_BK: Tensor, keys_BK: Tensor, queries_BQ: Tensor, labels: Sequence[int] = ()
    ) -> Any:
        """What queries see of keys, by their positions."""
        config, dtype = self.model.config.get_text_config(), self.embedding.weight.dtype
        return causal_mask(config, counts_BK, keys_BK, queries_BQ, dtype, labels)

    def cache(self, prefix: tuple[int, ...], rows: int) -> DynamicCache:
        """A KV cache of so many rows that holds a prefix, which is read where it is new."""
        if not self.by_position:  # whatever its layers keep
            return DynamicCache(config=self.model.config)
        return self.prefix(prefix).cache(rows)

    @torch.no_grad()
    def _read(self, ids: tuple[int, ...]) -> Prefix:
        """What prompts begin with, read once."""
        if not ids:
            return Prefix(())
        padded, cache = self.pad([[ids]]), DynamicCache()
        self.model(
            inputs_embeds=padded.embeds,
            attention_mask=self.mask(padded),
            position_ids=padded.positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return Prefix([(each.keys, each.values) for each in cache.layers])  # type: ignore[union-attr,misc]

    def tensor(self, values: Sequence[Any]) -> Tensor:
        """Whole numbers on the model's device, sent without waiting for what runs there."""
        return to_device(torch.tensor(values), self.device)

    def embed(self, ids: Sequence[int]) -> Tensor:
        """What the model is run on for token ids: [tokens, width]."""
        embedded: Tensor = self.embedding(self.tensor(list(ids)))
        return embedded


def _remedy(said: str) -> str:
    """What to do where transformers says this of a model that it cannot load."""
    if "trust_remote_code" in said:
        return "read the code; where you trust it, remote_code = true in the model's table"
    if "safetensors" in said:
        return CONVERT
    return "check the path; for a hub model, the network and `hf auth login`"


def untrained(path: str | Path, dtype: str, wanted: Mapping[str, Any], seed: int) -> Any:
    """A model of the same configuration, initialised from a seed as its family is; on the CPU.

    `wanted` is what `source` says of it.
    """
    config = AutoConfig.from_pretrained(path, **wanted)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # a GPU's generators stay as they are
        made: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, dtype=getattr(torch, dtype), trust_remote_code=wanted["trust_remote_code"]
        )
    return made


def _read_by(read: WeakMethod[Any], ids: tuple[int, ...]) -> Prefix:
    """A prefix read by a reader that is not kept alive by what it has read."""
    prefix: Prefix = read()(ids)  # type: ignore[misc]
    return prefix


def _read_here(prompt: Prompt) -> list[Any]:
    """The segments that are run: token ids and embeddings."""
    return [part for part in prompt if not isinstance(part, Cached | Graft)]


def _contiguous(head: Any, given: tuple[Tensor]) -> tuple[Tensor]:
    return (given[0].contiguous(),)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of this machine's memory on a device; to a GPU without waiting for its work."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
