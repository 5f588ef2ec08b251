"""The prepare job that trains one model of the toy pair."""

from __future__ import annotations

from lwspec.kernels.attempt import Attempt
from lwspec.kernels.toy.lm import train


def prepare_toy(attempt: Attempt) -> None:
    """Train the toy and offer its folder."""

    def on_step(step: int, total: int) -> None:
        attempt.check()
        attempt.progress(step, total, "training the toy")

    folder = attempt.path / "model"
    train(attempt.job.settings["toy"], folder, on_step)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    attempt.take("result", files, {}, {})
