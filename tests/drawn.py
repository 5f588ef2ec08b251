"""Tiny models with weights from a formula, the same in every release of torch and transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from lwspec.kernels.models.reader import Reader


def drawn_reader(layers: int, key: float, tokenizer: Path) -> Reader:
    """A Llama of width 16, whose weights another `key` makes others; prompts are given as ids."""
    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for number, (name, weight) in enumerate(sorted(model.named_parameters())):
            places = torch.arange(weight.numel(), dtype=torch.float64)
            turned = torch.sin(places * 12.9898 + 78.233 * (number + 1) + key) * 43758.5453
            drawn = turned - turned.floor() - 0.5
            weight.copy_((1 + 0.2 * drawn if "norm" in name else 1.2 * drawn).view_as(weight))
    return Reader(model, AutoTokenizer.from_pretrained(tokenizer), torch.device("cpu"))
