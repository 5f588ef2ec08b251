"""Texts from files and libraries, made fit for a terminal."""

from __future__ import annotations

from lwspec.engine.fields import controls


def printable(text: str) -> str:
    """The text with every character that would steer the terminal written out.

    Lines and tabs stay; of a line that a progress bar wrote over, what was written last is shown.
    """
    whole = text.replace("\r\n", "\n")
    if "\r" in whole:
        whole = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in whole.split("\n"))
    if not controls(whole.replace("\n", "").replace("\t", "")):
        return whole
    return "".join(c if c in "\n\t" or not controls(c) else _written_out(c) for c in whole)


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
