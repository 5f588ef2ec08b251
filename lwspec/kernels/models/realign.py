"""One model's tokens as another's, one for one: what the other reads in their places.

Source: Fu et al. 2025 (arXiv 2510.03215), section 3.3.2, with the maximal-coverage choice, and the
rules for special tokens of thu-nics/C2C at 69eb705.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

ROLES = ("unk_token_id", "bos_token_id", "eos_token_id", "pad_token_id")
"""Special tokens by what they are for; where one token is for several, the first counts."""


def realign(ids: Sequence[int], reader: Any, other: Any) -> list[int]:
    """The `other` tokenizer's token in the place of each of the `reader` tokenizer's.

    The text of each token alone is encoded anew, and of several pieces the longest is taken, the
    first among equals. Special tokens go by their role, then by their name. What has no counterpart
    is the unknown token, or token 0 where there is none. Between tokenizers of one vocabulary
    nothing changes.
    """
    if _same_vocabulary(reader, other):
        return list(ids)
    return [_counterpart(token, reader, other) for token in ids]


@lru_cache(maxsize=16)
def _same_vocabulary(reader: Any, other: Any) -> bool:
    return reader is other or bool(reader.get_vocab() == other.get_vocab())


@lru_cache(maxsize=2**18)
def _counterpart(token: int, reader: Any, other: Any) -> int:
    unknown: int = other.unk_token_id or 0
    text = _text(reader, token)
    if token in reader.all_special_ids:
        role = next((role for role in ROLES if _id(reader, role) == token), None)
        found = _id(other, role) if role else None
        named = other.convert_tokens_to_ids(text) if found is None else found
        return unknown if named is None else int(named)
    pieces: list[int] = other.encode(text, add_special_tokens=False)
    return max(pieces, key=lambda piece: len(_text(other, piece)), default=unknown)


def _id(tokenizer: Any, role: str) -> int | None:
    """A special token; where there is none for padding, that of the end."""
    found: int | None = getattr(tokenizer, role)
    return tokenizer.eos_token_id if found is None and role == "pad_token_id" else found


def _text(tokenizer: Any, token: int) -> str:
    return str(
        tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    )
