"""docs/tour.ipynb has its outputs, names no machine in them, and runs."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT, environment_of_a_user

TOUR = ROOT / "docs" / "tour.ipynb"


def texts(notebook: Any) -> list[str]:
    """What each code cell printed."""
    return [
        "".join(output["text"] for output in cell.outputs if output.output_type == "stream")
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_its_outputs_are_there_and_name_no_machine() -> None:
    notebook = nbformat.read(TOUR, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(cell.outputs for cell in code)
    written = "\n".join(texts(notebook))
    assert not re.search(r"/(tmp|root|home|work|Users|usr)\b|Error|WARNING|Traceback", written)
    pictures = [output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 4  # Figures 3 and 4, the confusions, and the race
    for said in ("60,965,224 parameters", "25 % training error after", "22,151,168", "step 330  validation"):
        assert said in written
    assert TOUR.stat().st_size < 2e6


@pytest.mark.slow
def test_it_runs_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JAX_NUM_CPU_DEVICES", "JAX_NUMPY_RANK_PROMOTION"):
        monkeypatch.delenv(name, raising=False)
    assert "JAX_PLATFORMS" in environment_of_a_user()
    notebook = nbformat.read(TOUR, as_version=4)
    before = texts(notebook)
    resources = {"metadata": {"path": str(TOUR.parent)}}
    NotebookClient(notebook, timeout=1800, resources=resources).execute()
    after = texts(notebook)
    of_training = next(i for i, text in enumerate(after) if "validation:" in text)
    assert after[:of_training] == before[:of_training]  # nothing trained: the same on every machine
    validations = re.findall(r"top-1 error ([\d.]+)%", after[of_training])
    assert len(validations) == 15 and float(validations[-1]) < 10
    assert re.search(r"^[678] of 8 right", after[of_training + 2], re.MULTILINE)
    assert "'7'" in after[of_training + 4]
    assert re.search(r"relu: 25 % training error after", after[-1])
