"""Scores of predictions against labels, and of written text against its target."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import accuracy_score, f1_score

ROUGE = ("rouge1", "rouge2", "rougeL")


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


def text_metrics(written: Sequence[str], targets: Sequence[str]) -> dict[str, float]:
    """Means over rows: ROUGE-1, -2 and -L (F measure, stemmed), exact match and token F1."""
    scorer = RougeScorer(ROUGE, use_stemmer=True)
    pairs = list(zip(written, targets, strict=True))
    scores = [scorer.score(target, text) for text, target in pairs]
    means = {name: sum(score[name].fmeasure for score in scores) / len(pairs) for name in ROUGE}
    exact = [normalised(text) == normalised(target) for text, target in pairs]
    return {
        **means,
        "exact_match": sum(exact) / len(pairs),
        "token_f1": sum(token_f1(text, target) for text, target in pairs) / len(pairs),
    }


def normalised(text: str) -> str:
    """Lower case without punctuation, articles and surplus spaces.

    Source: the evaluation of SQuAD (Rajpurkar et al. 2016).
    """
    bare = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def token_f1(text: str, target: str) -> float:
    """F1 over the multiset of normalised words; two empty texts agree (SQuAD's evaluation)."""
    said, wanted = normalised(text).split(), normalised(target).split()
    common = sum((Counter(said) & Counter(wanted)).values())
    if not said or not wanted:
        return float(said == wanted)
    return 2 * common / (len(said) + len(wanted))
