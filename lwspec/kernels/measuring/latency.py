"""How long an arm takes, part by part: sender, adapter, prefill, decode, and the whole.

    sender   its prompt tokenised and read, or its text written
    adapter  the message made and passed through bytes, or the probe's answer; the sender's reading
             too, in arms that run it with something of their own
    prefill  the receiver's prompt tokenised and read
    decode   the receiver's remaining tokens, as many for every arm that has a receiver

Parts are timed by events on the GPU's own clock, or by the machine's on a CPU. The whole is timed
in passes of its own, alternating with those that are timed in parts, so that what the stopwatch
itself costs can be seen.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy
import torch

from lwspec.engine.runs.jsonfile import read_json
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.attempt import Attempt
from lwspec.kernels.data.rows import Row, read_rows
from lwspec.kernels.measuring import wire
from lwspec.kernels.measuring.measured import open_measured, write_record
from lwspec.kernels.measuring.score import TEXT
from lwspec.kernels.models.answering import go_on, start
from lwspec.kernels.models.load import load_reader
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.sender import pooled_at, states_of, texts_of
from lwspec.kernels.setup import no_messages, present_rows

PARTS = ("sender", "adapter", "prefill", "decode")
Mark = Callable[[], None]


def measure_latency(attempt: Attempt, device: torch.device) -> None:
    """Time the job's arm on batches of test rows, and record every pass."""
    settings = attempt.job.settings
    latency = settings["latency"]
    sender = None
    if settings["needs"]:
        sender = load_reader(attempt, "sender", settings["models"]["sender"], device)
    arm, setup, checkpoint = open_measured(attempt, sender.width if sender else None, device)
    chain = Chain(arm, setup, sender, settings)
    rows = read_rows(attempt.input("data").file("result", "rows/test.parquet"))
    stopwatch = Stopwatch(device)
    parts: list[list[float]] = []
    totals: list[float] = []
    passes = latency["warmup"] + latency["repeats"]
    for number, batch in zip(range(passes), batches(rows, latency["batch_size"]), strict=False):
        attempt.check()
        if number == latency["warmup"]:
            stopwatch.reset_peak()
        laps = stopwatch.laps(partial(chain.run, batch))
        whole = stopwatch.whole(partial(chain.run, batch, _no_mark))
        if number >= latency["warmup"]:
            parts.append(laps)
            totals.append(whole)
        attempt.progress(number + 1, passes, "timing")
    metrics = summary(parts, totals, latency["batch_size"], stopwatch.peak_bytes())
    record = write_record(attempt, len(totals), checkpoint, metrics)
    untrained = arm.declaration.trained and checkpoint is None
    attempt.take(
        "result",
        [record],
        metrics,
        {
            "passes": len(totals),
            "untrained": untrained,
            "clock": stopwatch.name,
            "hardware": read_json(attempt.path / "started.json")["evidence"]["hardware"],
        },
    )


@dataclass(frozen=True)
class Chain:
    """An arm from texts to the receiver's last token, with nothing prepared beforehand."""

    arm: Arm
    setup: Setup
    sender: Reader | None
    settings: Any

    @torch.no_grad()
    def run(self, rows: Sequence[Row], mark: Mark) -> None:
        """One batch; `mark` is called where one part ends and the next begins."""
        batch = self._sender(rows)
        mark()
        if self.arm.predict is not None:
            self.arm.predict(self.setup, batch)
            mark()
            mark()
            return
        messages = no_messages(rows)
        if self.arm.sends:
            made = self.arm.messages(self.setup, batch)
            messages, _ = wire.send(made, self.settings.get("precision", TEXT))
        mark()
        reader = self.setup.reader
        assert reader is not None
        started = start(reader, present_rows(self.arm, self.setup, messages, rows))
        mark()
        tokens = self.settings["latency"]["new_tokens"]
        written = go_on(reader, started, tokens, stop_at_end=False)
        assert written.shape == (len(rows), tokens)

    def _sender(self, rows: Sequence[Row]) -> Batch:
        """What the sender's side has for the rows, made now."""
        states = texts = pooled = None
        for need in self.settings["needs"]:
            assert self.sender is not None
            asked = need["settings"]
            if need["step"] == "text":
                texts = texts_of(self.sender, rows, asked)
                continue
            if need["step"] == "pooled":
                pooled = pooled_at(self.sender, rows, asked, self.setup.settings.layer).cpu()
            else:
                states = states_of(self.sender, rows, asked)
        contexts, fields = [row.context for row in rows], [row.fields for row in rows]
        return Batch(contexts, states, texts, pooled, fields)


def batches(rows: Sequence[Row], size: int) -> Iterator[list[Row]]:
    """Batches in the rows' order, from the beginning again after the end."""
    place = 0
    while True:
        yield [rows[(place + offset) % len(rows)] for offset in range(size)]
        place += size


def _no_mark() -> None:
    """For passes that are timed as a whole."""


class Stopwatch:
    """Milliseconds between marks: CUDA events on one GPU, the machine's clock elsewhere."""

    def __init__(self, device: torch.device) -> None:
        self._gpus = torch.cuda.device_count() if device.type == "cuda" else 0
        self.name = "CUDA events" if self._gpus == 1 else "perf_counter"

    def laps(self, run: Callable[[Mark], None]) -> list[float]:
        """Milliseconds from the start to each mark and from the last one to the end."""
        if self._gpus != 1:
            moments = [self._now()]
            run(lambda: moments.append(self._now()))
            moments.append(self._now())
            return [1000 * (b - a) for a, b in zip(moments, moments[1:], strict=False)]
        events: list[torch.cuda.Event] = []

        def mark() -> None:
            events.append(torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]
            events[-1].record()

        torch.cuda.synchronize()
        mark()
        run(mark)
        mark()
        torch.cuda.synchronize()
        return [a.elapsed_time(b) for a, b in zip(events, events[1:], strict=False)]

    def _now(self) -> float:
        """The machine's clock, once every GPU has done what it was given."""
        for device in range(self._gpus):
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def whole(self, run: Callable[[], None]) -> float:
        """Milliseconds of a run without marks."""
        return sum(self.laps(lambda mark: run()))

    def reset_peak(self) -> None:
        """Forget the peak of memory so far; a CPU's process keeps its own."""
        for device in range(self._gpus):
            torch.cuda.reset_peak_memory_stats(device)

    def peak_bytes(self) -> int:
        """The peak of memory of all GPUs, or of this process."""
        if self._gpus:
            return sum(torch.cuda.max_memory_allocated(device) for device in range(self._gpus))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def summary(
    parts: Sequence[Sequence[float]], totals: Sequence[float], batch_size: int, peak_bytes: int
) -> dict[str, float]:
    """Mean, standard deviation, median and 95th percentile of each part and of the whole, in ms.

    `parts_over_total` is the sum of the parts' means over the mean of the whole.
    """
    columns = dict(zip(PARTS, zip(*parts, strict=True), strict=True))
    metrics: dict[str, float] = {}
    for name, values in {**columns, "total": totals}.items():
        metrics[f"{name}_ms"] = float(numpy.mean(values))
        metrics[f"{name}_ms_sd"] = float(numpy.std(values, ddof=1))
        metrics[f"{name}_ms_p50"] = float(numpy.percentile(values, 50))
        metrics[f"{name}_ms_p95"] = float(numpy.percentile(values, 95))
    metrics["parts_over_total"] = sum(metrics[f"{name}_ms"] for name in PARTS) / metrics["total_ms"]
    metrics["items_per_s"] = 1000 * batch_size / metrics["total_ms"]
    metrics["peak_mib"] = peak_bytes / 2**20
    return metrics
