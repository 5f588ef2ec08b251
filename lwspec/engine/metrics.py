"""The numbers that tables and figures can show: their units, headings and precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """A recorded number as it is shown."""

    heading: str
    factor: float = 1.0
    share: bool = False
    """Whether it is a share of test items, for which an interval over items exists."""
    unit: str = ""
    """Empty of a number of things."""
    timed: bool = False
    """Whether a timing records it, and not a test."""
    lower: bool = False
    """Whether less of it is better."""
    kinds: tuple[str, ...] = ("classification", "generation")
    """The kinds of task on which it is recorded."""
    asked: str = ""
    """The key of `evaluate` that asks for it; empty of what is always recorded."""
    made: Literal["measured", "counted", "held against bounds"] = "measured"
    """Whether a measurement recorded it; the report counts it over the jobs behind it; or it holds
    a score against those of the receiver without a message and with the text. Only what was
    measured is tested between rows, and drawn."""

    def text(self, value: float) -> str:
        """A value in its unit as it is printed: a number of things is whole."""
        return f"{value:.1f}" if self.unit else f"{value:,.0f}"

    @property
    def title(self) -> str:
        """Its heading with its unit, as an axis shows it."""
        return f"{self.heading} ({'%' if self.unit == 'per cent' else self.unit})"


def _latency() -> dict[str, Metric]:
    parts = ("sender", "adapter", "prefill", "decode", "total")
    ends = {"": "mean", "_sd": "sd", "_p50": "p50", "_p95": "p95"}
    return {
        f"{part}_ms{end}": Metric(
            f"{part} {which}", unit="milliseconds a batch", timed=True, lower=True
        )
        for part in parts
        for end, which in ends.items()
    }


DECIDES = {"classification": "accuracy", "generation": "rougeL"}
"""Kind of task to its one score: by its validation the best epoch is chosen, and of it the
recovered gap is taken."""

NO_MESSAGE, WITH_TEXT = "no_message", "receiver_direct"
"""The arms between which a recovered gap lies: what it is 0 and 100 per cent of."""

_LABELS, _TEXT = ("classification",), ("generation",)

METRICS: dict[str, Metric] = {
    "accuracy": Metric("accuracy", 100.0, True, "per cent", kinds=_LABELS),
    "macro_f1": Metric("macro F1", 100.0, False, "per cent", kinds=_LABELS),
    "strict_accuracy": Metric("strict accuracy", 100.0, True, "per cent", kinds=_LABELS),
    "unparsed_rate": Metric("unparsed", 100.0, True, "per cent", lower=True),
    "exact_match": Metric("exact match", 100.0, True, "per cent", kinds=_TEXT),
    "token_f1": Metric("token F1", 100.0, False, "per cent", kinds=_TEXT),
    "rouge1": Metric("ROUGE-1", 100.0, False, "per cent", kinds=_TEXT),
    "rouge2": Metric("ROUGE-2", 100.0, False, "per cent", kinds=_TEXT),
    "rougeL": Metric("ROUGE-L", 100.0, False, "per cent", kinds=_TEXT),
    "entity_recall": Metric("entity recall", 100.0, False, "per cent", kinds=_TEXT),
    "message_bytes": Metric("bytes", unit="bytes of a message", lower=True),
    "context_bits": Metric("context bits", unit="bits an item", asked="bits"),
    "recovered_gap": Metric(
        "recovered gap", 100.0, unit="per cent of the gap", made="held against bounds"
    ),
    "parameters": Metric("parameters", lower=True, made="counted"),
    "gpu_seconds": Metric("device seconds", unit="seconds", lower=True, made="counted"),
    **_latency(),
    "items_per_s": Metric("items/s", unit="items a second", timed=True),
    "peak_mib": Metric("peak MiB", unit="MiB of memory at the peak", timed=True, lower=True),
}
"""By the name under which an evaluation records it."""
