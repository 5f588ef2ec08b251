"""Storing behind the training: files are written and hashed while the GPU goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from torch import Tensor


class Behind:
    """A thread that does one thing after the other, and nothing more once one has failed."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None
        self.waited_s = 0.0
        """How long others stood still for it so far."""

    def then(self, work: Callable[[], object]) -> None:
        """Have it done after all that was handed over before."""
        before = self._last

        def in_turn() -> None:
            if before is not None:
                before.result()
            work()

        self._last = self._thread.submit(in_turn)

    def wait(self) -> None:
        """Until all is done. Raises what the first failure raised."""
        last, self._last = self._last, None
        began = time.monotonic()
        try:
            if last is not None:
                last.result()
        finally:
            self.waited_s += time.monotonic() - began

    def __enter__(self) -> Behind:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.wait()
        finally:
            self._thread.shutdown()


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as they are now, in the host's memory, whatever becomes of them there."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
