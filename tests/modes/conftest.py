"""A copy of the small run, and a folder of pictures, for the modes that use a run."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def workdir(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the small run, for one module."""
    return shutil.copytree(small_run, tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures, one that is none, and litter."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "inside").mkdir()
    rng = np.random.default_rng(0)
    for name in ("b.png", "a.jpg", "inside/c.JPG", "d.webp"):
        small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        small.resize((90, 80), Image.Resampling.BICUBIC).save(folder / name, quality=95)
    (folder / "broken.jpg").write_bytes((folder / "a.jpg").read_bytes()[:900])
    for name in (".hidden.jpg", "notes.txt", "Thumbs.db"):
        (folder / name).write_text("no picture")
    return folder
