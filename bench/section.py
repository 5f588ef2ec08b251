"""Writing what a bench found into a document: under a heading of its own, in place of the last."""

from __future__ import annotations

from pathlib import Path


def replace_section(path: Path, heading: str, text: str) -> None:
    """Put `text` under `## heading`, which is added at the end where it is new."""
    before, found, rest = path.read_text().partition(f"\n## {heading}\n")
    _, more, after = rest.partition("\n## ")
    path.write_text(
        f"{before.rstrip()}\n\n## {heading}\n\n{text.strip()}\n" + (f"\n## {after}" if more else "")
    )
