"""The notebooks run from their first cell to their last, over a real folder, and what they claim holds."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("notebooks") / "data"
    subprocess.run([sys.executable, "-m", "twintrack", "demo", "--data", str(folder)], check=True, capture_output=True)
    yield folder


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_to_its_end(path: Path, data: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "outputs are not kept in the repository"
    os.environ["TWINTRACK_AT"] = str(data)  # of the kernel, a process of its own
    try:
        NotebookClient(notebook, timeout=240, kernel_name="python3").execute()
    finally:
        del os.environ["TWINTRACK_AT"]
    assert len(NOTEBOOKS) >= 2
