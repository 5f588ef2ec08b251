"""The link: where it begins, against sums written out, and what it is run on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from lwspec.errors import ModelError
from lwspec.kernels.arm import Batch, Setup
from lwspec.kernels.arms import all_arms
from lwspec.kernels.methods.link import shared_pieces
from lwspec.kernels.methods.ridge import ridge
from lwspec.kernels.models.hidden import hidden_states
from lwspec.kernels.models.pool import stretches
from lwspec.kernels.models.reader import Reader

LINK = all_arms()["link"]


@pytest.fixture
def pair(world: Path) -> tuple[Reader, Reader]:
    device = torch.device("cpu")
    sender = Reader.load(world / "models/llama", "float32", None, device)
    return sender, Reader.load(world / "models/mistral", "float32", None, device)


def setup_of(pair: tuple[Reader, Reader], anchors: int = 90) -> Setup:
    given = {"layer": 2, "tokens": 3, "anchors": anchors}
    settings = LINK.declaration.settings.model_validate(given)
    return Setup(settings, {}, pair[1], pair[0].width, sender=pair[0])


def test_ridge_is_where_the_penalised_sum_of_squares_is_least() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(40, 5) * 3 + 1, torch.randn(40, 2)
    found, offset = ridge(x, y, 0.1)
    weights, bias = (w.double().requires_grad_() for w in (found, offset))
    rows = x.double(), y.double()
    loss = torch.zeros((), dtype=torch.float64)
    for one, other in zip(*rows, strict=True):
        for n in range(2):
            loss = loss + (other[n] - bias[n] - sum(weights[n, k] * one[k] for k in range(5))) ** 2
    spread = sum(float(((rows[0][:, k] - rows[0][:, k].mean()) ** 2).sum()) for k in range(5)) / 5
    (loss + 0.1 * spread * (weights**2).sum()).backward()
    assert weights.grad is not None and bias.grad is not None
    assert float(weights.grad.abs().max()) < 1e-3 > float(bias.grad.abs().max())


def test_states_that_are_all_alike_tell_nothing() -> None:
    x, y = torch.randn(1, 5).expand(8, -1), torch.randn(8, 3)
    weights, offset = ridge(x, y)
    assert not weights.any()
    torch.testing.assert_close(offset, y.mean(0))


def test_it_begins_as_the_regression_over_shared_pieces(pair: tuple[Reader, Reader]) -> None:
    sender, receiver = pair
    texts = {}
    for token in range(3, 300):
        text = sender.tokenizer.decode([token])
        theirs = receiver.tokenizer.encode(text, add_special_tokens=False)
        if sender.tokenizer.encode(text, add_special_tokens=False) == [token] and len(theirs) == 1:
            texts[token] = theirs[0]
    assert shared_pieces(sender, receiver) == list(texts.items())
    x = torch.cat([hidden_states(sender, [[[*sender.bos, t]]], 2)[0][-1:] for t in texts])
    y = receiver.embedding.weight[list(texts.values())]
    weights, offset = ridge(x, y)
    module = LINK.build(setup_of(pair))
    h = torch.randn(4, 3, sender.width)
    with torch.no_grad():
        torch.testing.assert_close(module(h), h @ weights.T + offset, atol=1e-4, rtol=1e-4)


def test_anchors_never_stand_first_where_no_token_marks_the_beginning(
    pair: tuple[Reader, Reader], world: Path
) -> None:
    sender = Reader.load(world / "models/qwen", "float32", None, torch.device("cpu"))
    assert not sender.bos
    pieces = shared_pieces(sender, pair[1])
    x = torch.cat([hidden_states(sender, [[[sender.eos, ours]]], 2)[0][-1:] for ours, _ in pieces])
    weights, offset = ridge(x, pair[1].embedding.weight[[theirs for _, theirs in pieces]])
    module = LINK.build(setup_of((sender, pair[1]), anchors=len(pieces)))
    torch.testing.assert_close(module.skip.weight, weights, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(module.skip.bias, offset, atol=1e-4, rtol=1e-4)


def test_with_the_weights_of_its_fit_no_anchor_is_read(pair: tuple[Reader, Reader]) -> None:
    setup = setup_of(pair)
    weights = {name: weight + 1 for name, weight in LINK.build(setup).state_dict().items()}
    read: list[int] = []
    pair[0].embedding.register_forward_hook(lambda *_: read.append(1))
    module = LINK.build(replace(setup, weights=weights))
    module.load_state_dict(weights)
    assert not read
    assert all(torch.equal(weight, weights[n]) for n, weight in module.state_dict().items())
    LINK.build(setup)
    assert read


def test_the_mlp_stands_beside_the_map(pair: tuple[Reader, Reader]) -> None:
    torch.manual_seed(0)
    module = LINK.build(setup_of(pair)).double()
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    w = {name: weight.detach() for name, weight in module.named_parameters()}
    h = torch.randn(pair[0].width, dtype=torch.float64)
    normed = (h - h.mean()) / (h.var(unbiased=False) + 1e-5).sqrt()
    inner = w["enter.weight"] @ (normed * w["norm.weight"] + w["norm.bias"]) + w["enter.bias"]
    raised = functional.gelu(inner)
    made = w["skip.weight"] @ h + w["skip.bias"] + w["leave.weight"] @ raised + w["leave.bias"]
    torch.testing.assert_close(module(h[None, None])[0, 0].detach(), made)


def test_stretches_cover_all_tokens_and_are_never_empty() -> None:
    torch.manual_seed(0)
    rows = [torch.randn(length, 4) for length in (1, 2, 7, 12)]
    means = stretches(rows, 3)
    for row, found in zip(rows, means, strict=True):
        for m in range(3):
            first, end = m * len(row) // 3, -(-(m + 1) * len(row) // 3)
            torch.testing.assert_close(found[m], sum(row[first:end]) / (end - first))


def test_its_parameters_are_those_declared_and_its_message_is_a_rows_own(
    pair: tuple[Reader, Reader],
) -> None:
    setup = setup_of(pair)
    module = LINK.build(setup)
    count = sum(parameter.numel() for parameter in module.parameters())
    assert LINK.declaration.parameters(setup.settings, pair[0].width, pair[1].width) == count
    setup = replace(setup, module=module)
    states = [torch.randn(length, pair[0].width) for length in (5, 9)]
    together = LINK.messages(setup, Batch(["", ""], states))
    alone = LINK.messages(setup, Batch([""], states[1:]))
    assert together[1].shape == (3, pair[1].width)
    torch.testing.assert_close(together[1], alone[0])


def test_vocabularies_that_share_too_little_are_refused(pair: tuple[Reader, Reader]) -> None:
    with pytest.raises(ModelError, match="one token in both vocabularies; there are"):
        LINK.build(setup_of(pair, anchors=300))
