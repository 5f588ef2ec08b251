"""What crosses from sender to receiver, as bytes: messages are really serialised and measured.

Whole numbers are rounded from each vector (the last dimension) over its own scale, the largest
magnitude over the largest whole number, which goes along in bfloat16: that has float32's range, so
that small vectors arrive as well as large ones. What is made of whole numbers beforehand, such as a
code, is sent as it is at any precision.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lwspec.kernels.message import Message

LARGEST = {"int8": 127, "int4": 7}
"""Of a precision's whole numbers."""


def pack(message: Any, precision: str) -> bytes:
    """One message as bytes: numbers at a precision in their order, or UTF-8 text."""
    if isinstance(message, str):
        return message.encode()
    numbers: Tensor = message.detach().cpu()
    if not numbers.is_floating_point():
        return _bytes(numbers)
    if precision not in LARGEST:
        return _bytes(numbers.to(getattr(torch, precision)))
    rows = numbers.float().reshape(-1, numbers.shape[-1])
    scales = (rows.abs().amax(1) / LARGEST[precision]).bfloat16()
    sent = scales.float()[:, None]
    whole = torch.where(sent > 0, rows / sent, 0.0).round()
    whole = whole.clamp(-LARGEST[precision], LARGEST[precision]).to(torch.int8)
    if precision == "int4":
        pairs = functional.pad(whole.flatten() + 8, (0, whole.numel() % 2)).view(-1, 2)
        whole = pairs[:, 0] * 16 + pairs[:, 1]
    return _bytes(scales) + _bytes(whole)


def unpack(data: bytes, like: Any, precision: str) -> Any:
    """The message that `pack` serialised; `like` tells kind and shape."""
    if isinstance(like, str):
        return data.decode()
    if not like.is_floating_point():
        return _read(data, like.dtype).view(like.shape).to(like.device)
    if precision not in LARGEST:
        numbers = _read(data, getattr(torch, precision))
        return numbers.view(like.shape).to(like.device, torch.float32)
    vectors = like.numel() // like.shape[-1]
    scales = _read(data[: 2 * vectors], torch.bfloat16).float()
    whole = _read(data[2 * vectors :], torch.int8)
    if precision == "int4":
        pairs = whole.view(torch.uint8)
        whole = torch.stack([pairs // 16, pairs % 16], 1).flatten()[: like.numel()].to(torch.int8)
        whole = whole - 8
    numbers = whole.view(vectors, like.shape[-1]).float() * scales[:, None]
    return numbers.view(like.shape).to(like.device)


def _bytes(numbers: Tensor) -> bytes:
    return bytes(numbers.contiguous().flatten().view(torch.uint8).numpy())


def _read(data: bytes, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)


def send(message: Message, precision: str) -> tuple[Message, list[int]]:
    """Messages as the receiver gets them, and the bytes that each took."""
    packed = [pack(one, precision) for one in message]
    received = [unpack(data, one, precision) for data, one in zip(packed, message, strict=True)]
    return received, [len(data) for data in packed]
