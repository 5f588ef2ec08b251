"""Sizes of models, from a local config, a short table of known ones, or the toys.

For the price, and to refuse early what a model cannot do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwspec.engine.runs.jsonfile import read_json


@dataclass(frozen=True)
class Shape:
    """How wide, how deep and how large a model is."""

    width: int
    layers: int
    parameters: float
    context: int | None = None
    """The longest input in tokens, where it is known."""
    key_width: int = 1024
    """Numbers in one token's keys at one layer, and in its values; by default what most have."""
    key_heads: int = 8
    """Over how many heads."""


TOYS = {
    "llama": Shape(96, 4, 0.5e6, key_width=96, key_heads=4),
    "mistral": Shape(64, 4, 0.25e6, key_width=32, key_heads=2),
}

KNOWN = {
    "google/gemma-2-2b-it": Shape(2304, 26, 2.61e9, 8192, 1024, 4),
    "google/gemma-2-9b-it": Shape(3584, 42, 9.24e9, 8192, 2048, 8),
    "meta-llama/Llama-3.1-8B-Instruct": Shape(4096, 32, 8.03e9, 131072, 1024, 8),
    "meta-llama/Llama-3.2-1B-Instruct": Shape(2048, 16, 1.24e9, 131072, 512, 8),
    "meta-llama/Llama-3.2-3B-Instruct": Shape(3072, 28, 3.21e9, 131072, 1024, 8),
    "meta-llama/Meta-Llama-3.1-8B-Instruct": Shape(4096, 32, 8.03e9, 131072, 1024, 8),
    "mistralai/Mistral-7B-Instruct-v0.3": Shape(4096, 32, 7.25e9, 32768, 1024, 8),
    "Qwen/Qwen2.5-0.5B-Instruct": Shape(896, 24, 0.49e9, 32768, 128, 2),
    "Qwen/Qwen2.5-1.5B-Instruct": Shape(1536, 28, 1.54e9, 32768, 256, 2),
    "Qwen/Qwen2.5-3B-Instruct": Shape(2048, 36, 3.09e9, 32768, 256, 2),
    "Qwen/Qwen2.5-7B-Instruct": Shape(3584, 28, 7.62e9, 32768, 512, 4),
}
"""From the models' published config.json files."""

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}

UNKNOWN = Shape(4096, 32, 8e9)
"""Assumed where neither config nor table tells: the size that this field uses most."""


def host_gb(sizes: Iterable[tuple[Shape, str]], copied_bytes: int) -> float:
    """Host memory in GB for a process that loads the two largest of some models, by their dtypes.

    Their weights and a quarter, for what stands beside them, what is copied to be stored, and 2 GB
    for the libraries.
    """
    weights = sorted(shape.parameters * BYTES[dtype] for shape, dtype in sizes)
    return 2.0 + (1.25 * sum(weights[-2:]) + copied_bytes) / 2**30


def shape_of(model: Mapping[str, Any], path: str) -> Shape | None:
    """The shape of a located model, or None where nothing is known of it."""
    if "toy" in model:
        return TOYS[model["toy"]]
    config = Path(path) / "config.json"
    if "weights" in model and config.exists():
        whole = read_json(config)
        inner = whole.get("text_config")
        return _from_config(inner if isinstance(inner, dict) and inner else whole)
    return KNOWN.get(path)


def _from_config(config: Mapping[str, Any]) -> Shape | None:
    """Parameters of a decoder from its config: attention, gated feed-forward, embeddings."""
    width = _size(config, "hidden_size", "n_embd")
    layers = _size(config, "num_hidden_layers", "n_layer")
    heads = _size(config, "num_attention_heads", "n_head")
    vocabulary = _size(config, "vocab_size")
    if not (width and layers and heads and vocabulary):
        return None
    inner = _size(config, "intermediate_size") or 4 * width
    head_dim = _size(config, "head_dim") or width // heads
    kv_heads = _size(config, "num_key_value_heads") or heads
    attention = 2 * width * head_dim * (heads + kv_heads)
    embeddings = vocabulary * width * (1 if config.get("tie_word_embeddings") else 2)
    context = _size(config, "max_position_embeddings", "n_positions")
    parameters = layers * (attention + 3 * width * inner) + embeddings
    return Shape(width, layers, parameters, context, kv_heads * head_dim, kv_heads)


def _size(config: Mapping[str, Any], *names: str) -> int | None:
    """What a config says under the first of some names, where it is a size."""
    found = (config.get(name) for name in names)
    return next((n for n in found if type(n) is int and 0 < n < 2**31), None)
