"""What crosses from sender to receiver, as bytes: messages are really serialised and measured."""

from __future__ import annotations

from typing import Any

import torch

from lwspec.kernels.message import Message


def pack(message: Any, precision: str) -> bytes:
    """One message as bytes: soft tokens row by row at a precision, or UTF-8 text."""
    if isinstance(message, str):
        return message.encode()
    numbers = message.detach().to("cpu", getattr(torch, precision)).contiguous()
    return bytes(numbers.view(torch.uint8).flatten().numpy())


def unpack(data: bytes, like: Any, precision: str) -> Any:
    """The message that `pack` serialised; `like` tells kind and width."""
    if isinstance(like, str):
        return data.decode()
    numbers = torch.frombuffer(bytearray(data), dtype=getattr(torch, precision))
    return numbers.view(-1, like.shape[-1]).to(like.device, torch.float32)


def send(message: Message, precision: str) -> tuple[Message, list[int]]:
    """Messages as the receiver gets them, and the bytes that each took."""
    packed = [pack(one, precision) for one in message]
    received = [unpack(data, one, precision) for data, one in zip(packed, message, strict=True)]
    return received, [len(data) for data in packed]
