"""Text into LaTeX, so that no name or caption can break or inject anything."""

from __future__ import annotations

import unicodedata

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
    '"': r"{\char34}",
}

_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau "
    "upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
).split()
_SIGNS = {
    "\u2212": "-",
    "\u2248": r"\approx",
    "\u2260": r"\neq",
    "\u2264": r"\leq",
    "\u2265": r"\geq",
    "\u2190": r"\leftarrow",
    "\u2192": r"\rightarrow",
    "\u2194": r"\leftrightarrow",
    "\u221e": r"\infty",
}


def _greek(name: str) -> str:
    """The character that Unicode, which spells it LAMDA, calls by a Greek letter's name."""
    size = "CAPITAL" if name[0].isupper() else "SMALL"
    return unicodedata.lookup(f"GREEK {size} LETTER {name.upper().replace('LAMBDA', 'LAMDA')}")


_MATHS = {**{_greek(name): f"\\{name}" for name in _GREEK}, **_SIGNS}
_CONTROL = {chr(code): " " for code in range(32)}
_TABLE = str.maketrans(
    {**_CONTROL, **_SPECIAL, **{sign: rf"\ensuremath{{{maths}}}" for sign, maths in _MATHS.items()}}
)

_DIGITS = "Zero One Two Three Four Five Six Seven Eight Nine".split()


def escape(text: str) -> str:
    """The text as LaTeX shows it."""
    return unicodedata.normalize("NFC", text).translate(_TABLE)


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


def escape_label(name: str) -> str:
    """A name as a LaTeX label: other characters than letters, digits and hyphens become hyphens."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "-") else "-" for c in name)
