"""Sizes of models, from a local config, a short table of known ones, or the toys: for the price."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Shape:
    """How wide, how deep and how large a model is."""

    width: int
    layers: int
    parameters: float


TOYS = {"llama": Shape(96, 4, 0.5e6), "mistral": Shape(64, 4, 0.25e6)}

KNOWN = {
    "meta-llama/Meta-Llama-3.1-8B-Instruct": Shape(4096, 32, 8.03e9),
    "meta-llama/Llama-3.1-8B-Instruct": Shape(4096, 32, 8.03e9),
    "mistralai/Mistral-7B-Instruct-v0.3": Shape(4096, 32, 7.25e9),
}
"""From the models' published config.json files."""

UNKNOWN = Shape(4096, 32, 8e9)
"""Assumed where neither config nor table tells: the size that this field uses most."""


def shape_of(model: Mapping[str, Any], path: str) -> Shape:
    """The shape of a located model, assumed where nothing is known of it."""
    return _known_shape(model, path) or UNKNOWN


def depth_of(model: Mapping[str, Any], path: str) -> int | None:
    """How many layers a located model has, or None where that is not known."""
    shape = _known_shape(model, path)
    return shape.layers if shape else None


def _known_shape(model: Mapping[str, Any], path: str) -> Shape | None:
    if "toy" in model:
        return TOYS[model["toy"]]
    config = Path(path) / "config.json"
    if "weights" in model and config.exists():
        whole = json.loads(config.read_text())
        return _from_config(whole.get("text_config") or whole)
    return KNOWN.get(path)


def _from_config(config: Mapping[str, Any]) -> Shape | None:
    """Parameters of a decoder from its config: attention, gated feed-forward, embeddings."""
    width = config.get("hidden_size") or config.get("n_embd")
    layers = config.get("num_hidden_layers") or config.get("n_layer")
    heads = config.get("num_attention_heads") or config.get("n_head")
    vocabulary = config.get("vocab_size")
    if not (width and layers and heads and vocabulary):
        return None
    inner = config.get("intermediate_size") or 4 * width
    head_dim = config.get("head_dim") or width // heads
    kv_heads = config.get("num_key_value_heads") or heads
    attention = 2 * width * head_dim * (heads + kv_heads)
    embeddings = vocabulary * width * (1 if config.get("tie_word_embeddings") else 2)
    return Shape(width, layers, layers * (attention + 3 * width * inner) + embeddings)
