"""Synthetic reading tasks of the toy pair and the documents its LMs are trained on."""

from __future__ import annotations

import zlib
from functools import cache
from random import Random

TASKS: tuple[str, ...] = ("sentiment", "topic")
LABELS: dict[str, tuple[str, ...]] = {
    "sentiment": ("negative", "positive"),
    "topic": ("world", "sports", "business", "science"),
}
HEADS: dict[str, tuple[str, str]] = {
    "sentiment": ("Review:", "Sentiment:"),
    "topic": ("Article:", "Topic:"),
}
SIZES: dict[str, int] = {"train": 2000, "test": 500}
# A text's checksum decides its split, so the splits are disjoint by construction.
SHARES: dict[str, range] = {"test": range(1), "train": range(1, 5), "lm": range(5, 16)}

# How often cues of another label are present, and how often these are the deciding ones.
CONTRAST = 0.6
REVERSED = 0.25


def _words(line: str) -> tuple[str, ...]:
    """Return the words of a line."""
    return tuple(line.split())


CUES: dict[str, tuple[str, ...]] = {
    "negative": ("awful", "dreadful", "terrible", "clumsy", "tedious", "shoddy", "bland", "dull"),
    "positive": _words("delightful superb excellent charming wonderful splendid lovely great"),
    "world": _words("treaty embassy border summit refugees ceasefire election parliament"),
    "sports": _words("goalkeeper tournament coach striker stadium league medal sprint"),
    "business": _words("shares profit merger bank investors tariff revenue retailer"),
    "science": _words("telescope genome fossil neuron comet microscope vaccine protein"),
}

ITEMS = _words("kettle lamp novel film camera blanket guitar jacket game clock chair radio")
TOWNS = _words("Leeds Turin Porto Lyon Bergen Ghent Malmo Vienna Riga Cork Basel Split")
TIMES = ("last spring", "in early May", "a month ago", "on Friday", "last winter", "two weeks ago")
PEOPLE = _words("brother sister neighbour cousin uncle teacher friend mother")
PAPERS = _words("Herald Courier Tribune Gazette Observer Chronicle")
LENGTHS = _words("long short careful detailed brief lengthy")

OPENINGS: dict[str, tuple[str, ...]] = {
    "sentiment": (
        "My {person} and I bought this {item} in {town} {time}.",
        "We ordered the {item} from a small shop in {town} {time}.",
        "This {item} came to our house from {town} by post {time}.",
    ),
    "topic": (
        "The {paper} of {town} printed a {length} report by my {person} {time}.",
        "A {length} piece by our {person} ran in the {town} {paper} {time}.",
        "Here is the {length} story that the {town} {paper} ran {time}.",
    ),
}
# Each pair: how the deciding cues are stated and how cues to ignore are, unless reversed.
STATED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sentiment": (
        ("I found it {a} and {b}", "to me it was {a} and {b}", "we think it is {a} and {b}"),
        (
            "some say it was {a} and {b}",
            "my {person} called it {a} and {b}",
            "critics find it {a} and {b}",
        ),
    ),
    "topic": (
        (
            "it covers the {a} and the {b}",
            "it follows the {a} and the {b}",
            "it is on the {a}, {b}",
        ),
        (
            "it skips the {a} and the {b}",
            "it leaves out the {a}, {b}",
            "it ignores the {a} and the {b}",
        ),
    ),
}
REVERSAL = "On reflection, the reverse is true."
CLOSINGS: dict[str, tuple[str, ...]] = {
    "sentiment": ("It came in a plain box.", "The price was as listed.", "It has a short cable."),
    "topic": ("There are two pages.", "A photo is included.", "The author is named below."),
}


def prompt(task: str, text: str) -> str:
    """Return the classification prompt of a text, without the special tokens."""
    head, tail = HEADS[task]
    return f"{head} {text}\n{tail}"


def relay_prompt(text: str) -> str:
    """Return the prompt that asks the sender for the deciding words of a text."""
    return f"Text: {text}\nKeywords:"


def primer_prompt(task: str, text: str) -> str:
    """Return the primer followed by a text, the layout in which soft tokens take its place."""
    return f"{HEADS[task][1]} {text}"


def _capital(sentence: str) -> str:
    """Return a sentence with its first letter in upper case."""
    return sentence[0].upper() + sentence[1:]


def _compose(task: str, label: int, rng: Random) -> tuple[str, str]:
    """Return one text of a label and its deciding words."""
    names = LABELS[task]
    a, b = rng.sample(CUES[names[label]], 2)
    # The other cues name another label: presence alone does not decide.
    c, d = rng.sample(CUES[rng.choice([name for name in names if name != names[label]])], 2)
    slots = {
        "person": rng.choice(PEOPLE),
        "item": rng.choice(ITEMS),
        "town": rng.choice(TOWNS),
        "time": rng.choice(TIMES),
        "paper": rng.choice(PAPERS),
        "length": rng.choice(LENGTHS),
    }
    contrast = rng.random() < CONTRAST
    reverse = contrast and rng.random() < REVERSED
    deciding, ignoring = STATED[task]
    told, aside = rng.choice(deciding), rng.choice(ignoring)
    cues = ((c, d), (a, b)) if reverse else ((a, b), (c, d))
    told = told.format(a=cues[0][0], b=cues[0][1])
    aside = aside.format(a=cues[1][0], b=cues[1][1], person=rng.choice(PEOPLE))
    if not contrast:
        body = f"{told}."
    elif rng.random() < 0.5:
        body = f"{aside}, but {told}."
    else:
        body = f"{told}, though {aside}."
    parts = [rng.choice(OPENINGS[task]).format(**slots), _capital(body)]
    if rng.random() < 0.3:
        parts.insert(rng.randint(1, 2), rng.choice(CLOSINGS[task]))
    if reverse:
        parts.append(REVERSAL)
    return " ".join(parts), f"{a}, {b}"


@cache
def _split(task: str, split: str, count: int) -> tuple[tuple[str, int, str], ...]:
    """Return a split's distinct (text, label, deciding words), balanced and shuffled."""
    rng = Random(f"{task} {split}")
    labels = [i % len(LABELS[task]) for i in range(count)]
    rng.shuffle(labels)
    found: dict[str, tuple[str, int, str]] = {}
    for label in labels:
        text = ""
        while not text or text in found or zlib.crc32(text.encode()) % 16 not in SHARES[split]:
            text, words = _compose(task, label, rng)
        found[text] = (text, label, words)
    assert len(found) == count
    return tuple(found.values())


def rows(task: str, split: str) -> list[dict[str, str | int]]:
    """Return the rows (text, label) of a task's train or test split."""
    return [{"text": text, "label": label} for text, label, _ in _split(task, split, SIZES[split])]


def lm_documents(which: str, count: int) -> list[tuple[str, str]]:
    """Return the (prompt, answer) documents that train one LM, from texts in no task split."""
    rng = Random(f"lm {which}")
    documents: list[tuple[str, str]] = []
    for task in TASKS:
        for text, label, words in _split(task, "lm", count // len(TASKS)):
            answer = f" {LABELS[task][label]}"
            layout = rng.random()
            if which == "llama":  # the sender reads texts and writes keywords
                if layout < 0.5:
                    documents.append((prompt(task, text), answer))
                elif layout < 0.75:
                    documents.append((relay_prompt(text), f" {words}"))
                else:
                    documents.append((prompt(task, words), answer))
            elif layout < 0.45:  # the receiver reads texts, keywords and soft tokens
                documents.append((prompt(task, text), answer))
            elif layout < 0.6:
                documents.append((prompt(task, words), answer))
            elif layout < 0.85:
                documents.append((primer_prompt(task, text), answer))
            else:
                documents.append((primer_prompt(task, words), answer))
    rng.shuffle(documents)
    # A warm-up from keyword lists to long texts: without it the cues are learnt much later.
    warm = count // 4
    return sorted(documents[:warm], key=lambda document: len(document[0])) + documents[warm:]
