"""The notebooks run from top to bottom in a real kernel, and what they show is safe to open."""

import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import jupytext
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
# What each notebook must show as a table, told by its caption.
TABLES = {
    "tutorial": ("tiny: 4 blocks", "windows of 64 tokens", "Dictionary of", "loss",
                 "features beyond chance", "ablated in", "energy-lens:"),
    "own_model": ("3 blocks of width 32", "3 blocks of width 16"),
    "own_energy": ("Descent of 120 states", "6 basins of 120 ends", "basins of 240 ends",
                   "Hopfield:", "random slopes:"),
}  # fmt: skip
_LOADS = re.compile(
    r"<(script|iframe|object|embed|link|img|style|foreignobject)|\bon\w+=|https?:|url\(", re.I
)


@pytest.fixture(scope="module")
def executed(tmp_path_factory, request):
    """A notebook after all its cells ran, as a person would see it."""
    path = request.param
    notebook = jupytext.read(path)
    folder = tmp_path_factory.mktemp(path.stem)
    own = {
        "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1", "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONWARNINGS": "ignore:IProgress not found",  # tqdm, where there are no ipywidgets
    }  # fmt: skip
    client = NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.create_kernel_manager()
    with TemporaryDirectory() as sockets:  # no ports; a socket's path has to be short
        client.km.transport, client.km.ip = "ipc", f"{sockets}/kernel"
        client.execute(env={**os.environ, **own})
    return path.stem, notebook


def outputs(notebook):
    return [found for cell in notebook.cells for found in cell.get("outputs", [])]


@pytest.mark.parametrize("executed", NOTEBOOKS, ids=lambda path: path.stem, indirect=True)
def test_a_notebook_runs_and_shows_its_results_without_scripts(executed):
    name, notebook = executed
    shown = [found.get("data", {}) for found in outputs(notebook)]
    tables = [data["text/html"] for data in shown if "text/html" in data]
    for caption in TABLES[name]:
        assert any(caption in table for table in tables), f"no table shows {caption!r}"
        assert any(caption in data.get("text/plain", "") for data in shown)
    assert not [table for table in tables if _LOADS.search(table)]
    warned = [found["text"] for found in outputs(notebook) if found.get("name") == "stderr"]
    assert not warned


def test_every_notebook_says_what_it_shows():
    assert {path.stem for path in NOTEBOOKS} == TABLES.keys()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs_as_plain_text(path):
    notebook = jupytext.read(path)
    assert notebook.cells[0].cell_type == "markdown"
    cells = path.read_text(encoding="utf-8").count("\n# %%")
    assert len(notebook.cells) == cells > 5
