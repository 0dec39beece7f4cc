"""A small run, and a folder of pictures, for the modes that use a run."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import SMALL, launch, result


@pytest.fixture(scope="module")
def workdir(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run of two steps."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    result(launch(*SMALL, f"--config.data.data_dir={data_dir}", f"--workdir={folder}", "--config.train.steps=2"))
    return folder


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
