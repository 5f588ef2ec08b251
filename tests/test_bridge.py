"""The bridge's parts against plain computations."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
import torch

from lwspec.kernels.arm import Batch, Setup
from lwspec.kernels.arms.bridge import ARM, Settings, parameters
from lwspec.kernels.methods.perceiver import Perceiver, batch_similarity, pad_states
from lwspec.kernels.models.reader import Reader


@pytest.mark.parametrize(
    ("width", "sender", "receiver"), [(16, 32, 24), (24, 32, 24), (32, 32, 24)]
)
def test_the_declared_number_of_parameters_is_true(width: int, sender: int, receiver: int) -> None:
    settings = Settings(layer=1, latents=5, width=width, depth=2, heads=4)
    module = Perceiver(sender, receiver, width=width, latents=5, depth=2, heads=4, rms=0.1)
    assert parameters(settings, sender, receiver) == sum(p.numel() for p in module.parameters())


def test_the_published_size_of_the_full_bridge() -> None:
    """537,059,329 trainable parameters at width 4096 and M = 8, recomputed from its checkpoints."""
    assert parameters(Settings(layer=16, latents=8, width=4096), 4096, 4096) == 537_059_329


def test_soft_tokens_have_the_root_mean_square_of_the_receivers_embeddings(world: Path) -> None:
    reader = Reader.load(world / "models/mistral", "float32", None, torch.device("cpu"))
    setup = Setup(Settings(layer=1, latents=4, width=16, heads=2), {}, reader, 32)
    torch.manual_seed(3)
    module = ARM.build(setup)
    setup = Setup(setup.settings, {}, reader, 32, module=module)
    soft = torch.stack(list(ARM.messages(setup, Batch(["a", "b"], [torch.randn(5, 32)] * 2))))
    rms = soft.detach().pow(2).mean(-1).sqrt()
    assert soft.shape == (2, 4, reader.width)
    torch.testing.assert_close(rms, torch.full_like(rms, reader.embedding_rms))
    by_hand = reader.embedding.weight.pow(2).mean(1).sqrt().median()
    assert reader.embedding_rms == pytest.approx(float(by_hand))


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    module = Perceiver(32, 24, width=16, latents=4, depth=2, heads=2, rms=0.1)
    short, long = torch.randn(3, 32), torch.randn(9, 32)
    together = module(*pad_states([short, long], torch.device("cpu")))
    for row, states in enumerate((short, long)):
        torch.testing.assert_close(
            together[row], module(*pad_states([states], torch.device("cpu")))[0]
        )


def test_diversity_is_the_mean_cosine_between_rows() -> None:
    messages = torch.randn(4, 3, 5)
    flat = messages.flatten(1)
    cosines = [
        torch.cosine_similarity(flat[i], flat[j], dim=0) for i, j in permutations(range(4), 2)
    ]
    torch.testing.assert_close(batch_similarity(messages), torch.stack(cosines).mean())
    assert float(batch_similarity(messages[:1])) == 0.0
