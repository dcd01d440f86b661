"""The notebook in docs runs from the first cell to the last."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "first_masks.ipynb"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    try:
        NotebookClient(
            notebook, timeout=500, resources={"metadata": {"path": str(tmp_path)}}
        ).execute()
    finally:
        from flows.orchestration.servers import server

        server.stop()
    assert (tmp_path / "overlay.mp4").stat().st_size > 1000
    [last] = notebook.cells[-1].outputs
    assert last["data"]["text/plain"].count("present") == len(
        notebook.cells[2].outputs[0]["data"]["text/plain"].split(",")
    )


def test_the_notebook_is_stored_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert not [cell for cell in code if cell.outputs or cell.execution_count]
