"""docs/notebook.ipynb runs, and shows what it showed when it was committed."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from notebook import NOTEBOOK, run


def outputs(notebook: NotebookNode) -> list[list[str]]:
    """Of each cell of code, what kinds of output it has, and the first line of what is text."""
    return [
        [f"{output.output_type} {_first_line(output)}" for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def _first_line(output: NotebookNode) -> str:
    text: str = output.get("text") or output.get("data", {}).get("text/plain", "")
    line = text.strip().split("\n")[0]
    return line.split(" · code ")[0]  # which is of another commit


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_showed(tmp_path: Path) -> None:
    committed = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any("error" in kind for shown in outputs(committed) for kind in shown)
    assert outputs(run(tmp_path)) == outputs(committed)
