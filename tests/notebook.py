"""Run docs/notebook.ipynb anew and keep what it printed: `make notebook`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOK = Path(__file__).parent.parent / "docs/notebook.ipynb"
LONGEST_S = 600


def run(folder: Path) -> NotebookNode:
    """The notebook as it comes out of a kernel that was started in a folder.

    Raises CellExecutionError where a cell does.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=LONGEST_S,
        record_timing=False,
        coalesce_streams=True,  # else their number depends on how long a cell takes
        resources={"metadata": {"path": folder}},
    )
    client.execute()
    return notebook


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(run(Path(folder)), NOTEBOOK)
