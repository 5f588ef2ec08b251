"""From the nested rows of well-known data sets to flat columns that a task's templates can name.

An adapter reads one raw row and returns one flat row. Schemas as published on the hub:
`rajpurkar/squad`, `hotpotqa/hotpot_qa`, `allenai/ai2_arc`, `openai/gsm8k`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lwspec.errors import DataError

Raw = Mapping[str, Any]


def adapt(name: str | None, row: Raw, where: str) -> dict[str, Any]:
    """The row under an adapter. Raises DataError where it has not the adapter's schema."""
    if name is None:
        return dict(row)
    try:
        return ADAPTERS[name](row)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(
            f"{where} has not the schema of {name!r}: {type(error).__name__} {error}",
            remedy=f"its columns are {', '.join(row)}; choose another data.adapter or none",
        ) from None


def squad(row: Raw) -> dict[str, Any]:
    """`passage`, `question`, the first answer as `answer`, every distinct one as `answers`."""
    answers = list(dict.fromkeys(row["answers"]["text"]))
    return {
        "passage": row["context"],
        "question": row["question"].strip(),
        "answer": answers[0],
        "answers": answers,
    }


def hotpotqa(row: Raw) -> dict[str, Any]:
    """`passage`: every paragraph after its title, in the order given; `question`, `answer`."""
    context = row["context"]
    paragraphs = [
        f"{title}: {''.join(sentences).strip()}"
        for title, sentences in zip(context["title"], context["sentences"], strict=True)
    ]
    return {
        "passage": "\n".join(paragraphs),
        "question": row["question"].strip(),
        "answer": row["answer"],
    }


def arc(row: Raw) -> dict[str, Any]:
    """`question`, `choices` as lettered lines, and `answer` as a letter; digits become letters."""
    names = [_letter(label) for label in row["choices"]["label"]]
    lines = [f"{n}. {text}" for n, text in zip(names, row["choices"]["text"], strict=True)]
    return {
        "question": row["question"],
        "choices": "\n".join(lines),
        "answer": _letter(row["answerKey"]),
    }


def _letter(label: str) -> str:
    return "ABCDE"[int(label) - 1] if label.isdigit() else label


def gsm8k(row: Raw) -> dict[str, Any]:
    """`question`, the whole `solution`, and the number after its `####` as `answer`."""
    solution, mark, answer = row["answer"].rpartition("####")
    if not mark:
        raise KeyError("no #### in the answer")
    return {
        "question": row["question"],
        "solution": f"{solution.strip()}\n#### {answer.strip()}",
        "answer": answer.strip(),
    }


ADAPTERS: dict[str, Callable[[Raw], dict[str, Any]]] = {
    "squad": squad,
    "hotpotqa": hotpotqa,
    "arc": arc,
    "gsm8k": gsm8k,
}
