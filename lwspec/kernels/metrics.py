"""Scores of predictions against labels."""

from __future__ import annotations

from collections.abc import Sequence

from sklearn.metrics import accuracy_score, f1_score


def classification_metrics(
    labels: Sequence[int], predicted: Sequence[int], num_labels: int
) -> dict[str, float]:
    """Accuracy and macro F1 over every label of the task, those absent from the test included."""
    return {
        "accuracy": float(accuracy_score(labels, predicted)),
        "macro_f1": float(
            f1_score(
                labels, predicted, labels=range(num_labels), average="macro", zero_division=0.0
            )
        ),
    }


def parse_answer(written: str, answers: Sequence[str]) -> int | None:
    """The label whose whole answer was written, or None: no substring counts.

    The first line of what was written, without surrounding spaces, must equal an answer.
    """
    lines = written.strip().splitlines()
    said = lines[0].strip() if lines else ""
    found = [index for index, answer in enumerate(answers) if answer.strip() == said]
    return found[0] if found else None
