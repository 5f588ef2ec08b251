"""Text into LaTeX, so that no name or caption can break or inject anything."""

from __future__ import annotations

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
}

_DIGITS = "Zero One Two Three Four Five Six Seven Eight Nine".split()


def escape(text: str) -> str:
    """The text as LaTeX shows it."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def macro_name(*parts: str) -> str:
    """A macro's name from words: letters only, each word capitalised, digits spelled out."""
    words: list[str] = []
    for part in parts:
        word = ""
        for character in part:
            if character.isascii() and character.isalpha():
                word += character
            elif character.isdigit() and character.isascii():
                words.append(word)
                words.append(_DIGITS[int(character)])
                word = ""
            else:
                words.append(word)
                word = ""
        words.append(word)
    return "".join(word[:1].upper() + word[1:] for word in words if word)
