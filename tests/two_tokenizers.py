"""Two small tokenizers of other merges and special tokens, each the same on every machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


def tokenizer(merges: Sequence[str], special: Mapping[str, str]) -> PreTrainedTokenizerFast:
    """Byte-level pair encoding of some merges; its special tokens come first."""
    pairs = [tuple(merge.split()) for merge in merges]
    symbols = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, pairs)]
    named = dict.fromkeys(special.values())
    vocabulary = {symbol: number for number, symbol in enumerate([*named, *symbols])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, clean_up_tokenization_spaces=False, **special
    )


def reading() -> PreTrainedTokenizerFast:
    """Long pieces, a token each for beginning, end and padding."""
    merges = (
        "r i|v e|ri ve|rive r|Ġ river|s t|o n|st on|ston e|Ġ stone|g r|e e|gr ee|gree n|Ġ green"
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return tokenizer(merges.split("|"), special)


def sharing() -> PreTrainedTokenizerFast:
    """Short pieces, one token for the end and for padding, and none for the beginning."""
    merges = "i v|Ġ r|iv e|t o|to n|ton e|g r|Ġ gr|e n"
    special = {"eos_token": "<end>", "unk_token": "<unk>"}
    return tokenizer(merges.split("|"), special)


TEXT = "green stone river\n greenstone, été"
