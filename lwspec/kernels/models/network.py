"""Whether something failed because the network did, which may work when it is tried again."""

from __future__ import annotations

from collections.abc import Iterator

OF_CLIENTS = {"TransportError", "RequestException", "OfflineModeIsEnabled"}
"""Bases of the errors of httpx, requests and the hub's client for servers out of reach."""


def unreachable(error: BaseException) -> bool:
    """Whether an error, or one behind it, says that a server could not be reached."""
    return any(
        isinstance(each, (ConnectionError, TimeoutError))
        or any(base.__name__ in OF_CLIENTS for base in type(each).__mro__)
        for each in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
