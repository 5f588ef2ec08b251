"""Scores of predictions against labels, and of written text against its target."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence

from lwspec.errors import DataError

ROUGE = ("rouge1", "rouge2", "rougeL")


def macro_f1(labels: Sequence[int], predicted: Sequence[int], num_labels: int) -> float:
    """The mean F1 over every label of the task, those absent from the test included.

    A label that nobody has and nobody predicted counts as an F1 of 0.
    """
    right = Counter(label for label, said in zip(labels, predicted, strict=True) if label == said)
    counted = Counter(labels) + Counter(predicted)
    f1 = (
        2 * right[label] / counted[label] if counted[label] else 0.0 for label in range(num_labels)
    )
    return sum(f1) / num_labels


def parse_answer(written: str, answers: Sequence[str]) -> int | None:
    """The label whose whole answer was written, or None: no substring counts.

    The first line of what was written, without surrounding spaces, must equal an answer.
    """
    lines = written.strip().splitlines()
    said = lines[0].strip() if lines else ""
    found = [index for index, answer in enumerate(answers) if answer.strip() == said]
    return found[0] if found else None


def text_scores(
    written: Sequence[str], accepted: Sequence[Sequence[str]], answer_pattern: str | None = None
) -> dict[str, list[float]]:
    """Each row's ROUGE-1, -2 and -L (F measure, stemmed) and the answers' agreement.

    Of several accepted answers the best counts. Agreement is exact match and token F1 of the
    normalised texts; or, with `answer_pattern`, whether its group finds the same first in both
    texts, one in which it finds nothing being wrong and counted in `unparsed_rate`.

    Raises DataError where the pattern finds nothing in an accepted answer.
    """
    from rouge_score.rouge_scorer import RougeScorer  # two seconds, which labels need not wait for

    scorer = RougeScorer(ROUGE, use_stemmer=True)
    pairs = list(zip(written, accepted, strict=True))
    rouge = [scorer.score_multi(list(answers), text) for text, answers in pairs]
    scores = {name: [float(score[name].fmeasure) for score in rouge] for name in ROUGE}
    if answer_pattern is not None:
        return {**scores, **_answer_scores(answer_pattern, pairs)}
    exact = [
        float(normalised(text) in {normalised(answer) for answer in answers})
        for text, answers in pairs
    ]
    f1 = [max(token_f1(text, answer) for answer in answers) for text, answers in pairs]
    return {**scores, "exact_match": exact, "token_f1": f1}


def _answer_scores(
    pattern: str, pairs: Sequence[tuple[str, Sequence[str]]]
) -> dict[str, list[float]]:
    """Whether the pattern finds an accepted answer in each text, and whether it finds nothing."""
    found = [first_match(pattern, text) for text, _ in pairs]
    wanted = [{first_match(pattern, answer) for answer in answers} for _, answers in pairs]
    without = [row for row, answers in enumerate(wanted) if None in answers]
    if without:
        raise DataError(
            f"answer_pattern finds no answer in the target of {len(without)} of {len(wanted)} "
            f"rows, such as {pairs[without[0]][1][0]!r}",
            remedy="mend answer_pattern or target",
        )
    right = [float(text in answers) for text, answers in zip(found, wanted, strict=True)]
    return {"exact_match": right, "unparsed_rate": [float(text is None) for text in found]}


def mean(values: Iterable[float]) -> float:
    """The mean of at least one value."""
    listed = [float(value) for value in values]
    return sum(listed) / len(listed)


def first_match(pattern: str, text: str) -> str | None:
    """The group of the pattern's first match in a text, its thousands' commas dropped."""
    match = re.search(pattern, text)
    found = match[1] if match else None
    return None if found is None else found.replace(",", "").rstrip(".")


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
