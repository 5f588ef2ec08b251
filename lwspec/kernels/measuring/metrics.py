"""Scores of predictions against labels, and of written text against its target."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence

import regex

from lwspec.errors import DataError

PATTERN_S = 10.0
"""How long a task's pattern may look at one answer, which takes microseconds where it is sound."""

ROUGE = ("rouge1", "rouge2", "rougeL")

Entity = tuple[str, ...]
"""A number or name as its words."""
_WORD = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+(?:[-'\u2019][^\W\d_]+)*|[^\w\s]")
"""A number, a word, or a mark."""
_ENDS, _OPENS = frozenset(".!?"), frozenset("\"'([{\u201c\u2018\u00ab")
"""Marks that end a sentence, and marks that may stand before the first word of one."""


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
) -> dict[str, list[float | None]]:
    """Each row's ROUGE-1, -2 and -L (F measure, stemmed), entity recall and answers' agreement.

    Of several accepted answers the best counts. Agreement is exact match and token F1 of the
    normalised texts; or, with `answer_pattern`, whether its group finds the same first in both
    texts, one in which it finds nothing being wrong and counted in `unparsed_rate`.

    Raises DataError where the pattern finds nothing in an accepted answer.
    """
    from rouge_score.rouge_scorer import RougeScorer  # two seconds, which labels need not wait for

    scorer = RougeScorer(ROUGE, use_stemmer=True)
    pairs = list(zip(written, accepted, strict=True))
    rouge = [scorer.score_multi(list(answers), text) for text, answers in pairs]
    scores: dict[str, list[float | None]] = {
        name: [float(score[name].fmeasure) for score in rouge] for name in ROUGE
    }
    scores["entity_recall"] = [entity_recall(text, answers) for text, answers in pairs]
    if answer_pattern is not None:
        return {**scores, **_answer_scores(answer_pattern, pairs)}
    exact: list[float | None] = [
        float(normalised(text) in {normalised(answer) for answer in answers})
        for text, answers in pairs
    ]
    f1: list[float | None] = [
        max(token_f1(text, answer) for answer in answers) for text, answers in pairs
    ]
    return {**scores, "exact_match": exact, "token_f1": f1}


def _answer_scores(
    pattern: str, pairs: Sequence[tuple[str, Sequence[str]]]
) -> dict[str, list[float | None]]:
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
    right: list[float | None] = [
        float(text in answers) for text, answers in zip(found, wanted, strict=True)
    ]
    return {"exact_match": right, "unparsed_rate": [float(text is None) for text in found]}


def entity_recall(written: str, accepted: Sequence[str]) -> float | None:
    """The share of a target's entities that occur in what was written; of several, the best.

    None where no target names any. Approximates the target recall of Nan et al. 2021 (EACL,
    "Entity-level Factual Consistency of Abstractive Text Summarization", section 2), which a
    tagger of named entities finds. An entity occurs where its words follow one another in the
    text, in any case and without their possessive 's.
    """
    said = _words(written)
    wanted = [found for target in accepted if (found := entities(target))]
    shares = [sum(_occurs(entity, said) for entity in found) / len(found) for found in wanted]
    return max(shares, default=None)


def entities(text: str) -> set[Entity]:
    """The numbers of a text, and its runs of capitalised words, as words in lower case.

    A run is of words that follow one another with nothing but spaces between them. A sentence's
    first word belongs to none, since its capital says nothing: "The United Nations" is "united
    nations", and a name that is a sentence's first word alone is missed. A sentence begins with the
    text and behind a full stop, exclamation or question mark, whatever quotes or brackets open it.
    Numbers keep points and colons between their digits and lose commas.
    """
    found: set[Entity] = set()
    run: list[str] = []
    begins = True
    for word in [*_WORD.findall(text), "."]:
        if word[0].isupper() and not begins:
            run.append(_plain(word))
            continue
        if run:
            found.add(tuple(run))
            run = []
        if word[0].isdigit():
            found.add((_plain(word),))
        begins = word in _ENDS or (begins and word in _OPENS)
    return found


def _words(text: str) -> list[str]:
    return [_plain(word) for word in _WORD.findall(text) if word[0].isalnum()]


def _plain(word: str) -> str:
    bare = re.sub(r"['\u2019]s$", "", word.lower())
    return bare.replace(",", "") if bare[0].isdigit() else bare


def _occurs(entity: Entity, words: Sequence[str]) -> bool:
    size = len(entity)
    return any(tuple(words[at : at + size]) == entity for at in range(len(words) - size + 1))


def mean(values: Iterable[float]) -> float:
    """The mean of at least one value."""
    listed = [float(value) for value in values]
    return sum(listed) / len(listed)


def mean_where_defined(values: Iterable[float | None]) -> float | None:
    """The mean of the values that there are; None where there is none."""
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def first_match(pattern: str, text: str) -> str | None:
    """The group of the pattern's first match in a text, its thousands' commas dropped.

    Raises DataError for a pattern that takes for ever.
    """
    try:
        match = regex.search(pattern, text, timeout=PATTERN_S)
    except TimeoutError:
        raise DataError(
            f"the task's answer_pattern takes more than {PATTERN_S:g} s on one answer",
            remedy="a pattern without a repetition inside another: (a+)+ takes for ever",
        ) from None
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
