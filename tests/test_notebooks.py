"""Every notebook (a percent script) runs to its end in a fresh kernel and asserts what it claims."""

from __future__ import annotations

import ast
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
SECONDS = 120


def execute(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Run all cells in a kernel of their own; raise CellExecutionError at the first that fails."""
    client = NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    return client.execute()


def asserts(notebook: nbformat.NotebookNode) -> int:
    """Return how many assert statements, or calls of numpy's assert functions, the code cells hold."""
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return sum(
        isinstance(node, ast.Assert)
        or (isinstance(node, ast.Attribute) and node.attr.startswith("assert_"))
        for node in ast.walk(ast.parse(source))
    )  # fmt: skip


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.timeout(2 * SECONDS)
# The notebook's own warnings stay in its kernel; these come from the client's event loop.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_notebook_runs_and_asserts(path, tmp_path):
    notebook = jupytext.read(path)
    assert notebook.cells, f"{path.name} has no cells"
    assert notebook.cells[0].cell_type == "markdown", f"{path.name} does not begin by saying what it argues"
    assert asserts(notebook) >= 3, f"{path.name} makes claims and asserts {asserts(notebook)} of them"
    execute(notebook, tmp_path)


def test_no_outputs_are_committed():
    stored = [
        path for path in (ROOT / "notebooks").glob("*.ipynb") if '"outputs": [\n    {' in path.read_text()
    ]
    assert not stored, f"notebooks carry outputs; the percent script is the source: {stored}"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_false_claim_fails(tmp_path):
    notebook = jupytext.reads("# %% [markdown]\n# Sums.\n\n# %%\nassert 1 + 1 == 3\n", fmt="py:percent")
    assert asserts(notebook) == 1
    with pytest.raises(CellExecutionError, match="AssertionError"):
        execute(notebook, tmp_path)
