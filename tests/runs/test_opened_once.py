"""A command opens each run once, so that each sentence about the run's files appears once."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import alexnet_jax
from alexnet_jax.figures import figure1
from alexnet_jax.modes import (
    INVOCATIONS,
    EvaluateInvocation,
    FiguresInvocation,
    TrainInvocation,
    evaluate,
    export,
    features,
    figures,
    neighbours,
    predict,
    train,
)
from alexnet_jax.runs import folder
from configs import cifar10
from tests.conftest import small_config
from tests.figures import test_figure1
from tests.figures.made_up import made_up

EDITED = "config.json' has changed since the run began"
MODES: dict[str, tuple[Any, dict[str, Any]]] = {  # the mode and its flags; OUT is a free place
    "predict": (predict, {"files": ("PICTURE",)}),
    "features": (features, {"files": ("PICTURE",), "layer": ("fc7",), "output": "OUT"}),
    "neighbours": (neighbours, {"files": ("PICTURE",)}),
    "figure 3": (figures, {"figure": "3"}),
    "figure 4": (figures, {"figure": "4"}),
    "confusion": (figures, {"figure": "confusion"}),
    "curves": (figures, {"figure": "curves"}),
    "page": (figures, {"figure": "page"}),
    "export": (export, {"format": "safetensors", "weights": "OUT"}),
}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that `open_run` was called with, from any module."""
    calls: list[Path] = []
    original = folder.open_run

    def counted(workdir: Path) -> folder.Run:
        calls.append(workdir)
        return original(workdir)

    for name, module in list(sys.modules.items()):
        if name.startswith("alexnet_jax.") and getattr(module, "open_run", None) is original:
            monkeypatch.setattr(module, "open_run", counted)
    return calls


@pytest.fixture
def edited(data_dir: Path, tmp_path: Path) -> Path:
    """A run with metrics, and with a config.json that somebody edited."""
    workdir = made_up(tmp_path / "run", small_config(data_dir))
    numbers = {"step": 10, "epoch": 1.0, "train/loss": 2.0, "images_per_second": 1000.0}
    (workdir / "metrics.jsonl").write_text(json.dumps(numbers) + "\n")
    edit(workdir)
    return workdir


def edit(workdir: Path) -> None:
    saved = json.loads((workdir / "config.json").read_text())
    saved["train"]["log_every"] += 1
    (workdir / "config.json").write_text(json.dumps(saved))


@pytest.mark.parametrize("name", MODES)
def test_a_mode_opens_its_run_once(
    name: str, edited: Path, opened: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.zeros((80, 80, 3), np.uint8)).save(tmp_path / "a.png")
    mode, flags = MODES[name]
    picture = str(tmp_path / "a.png")
    places: dict[Any, Any] = {("PICTURE",): (picture,), "OUT": str(tmp_path / "out")}
    invocation = INVOCATIONS[mode.__name__.rpartition(".")[2]]
    mode.run(None, invocation(edited, **{flag: places.get(value, value) for flag, value in flags.items()}))
    assert opened == [edited]
    assert capfd.readouterr().err.count(EDITED) == 1


def test_evaluate_and_load_open_a_run_once(
    edited: Path, data_dir: Path, opened: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    both: list[Callable[[], Any]] = [
        lambda: evaluate.run(small_config(data_dir), EvaluateInvocation(edited)),
        lambda: alexnet_jax.load(edited),
    ]
    for run in both:
        opened.clear()
        run()
        assert opened == [edited]
        assert capfd.readouterr().err.count(EDITED) == 1


def test_training_and_its_page_open_the_run_once(
    data_dir: Path, opened: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config, workdir = small_config(data_dir), tmp_path / "run"
    config.train.steps, config.mesh.data, config.mesh.model = 1, 1, 1
    train.run(config, TrainInvocation(workdir))
    assert opened == [workdir] and (workdir / "report.html").is_file()
    assert EDITED not in capfd.readouterr().err
    edit(workdir)
    opened.clear()
    config.train.steps = 2
    train.run(config, TrainInvocation(workdir))
    said = capfd.readouterr().err
    assert opened == [workdir] and said.count(EDITED) == 1 and "the run on one page" in said


def test_figure_1_opens_the_runs_that_it_trains_only_to_train_them(
    opened: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(config: Any, invocation: TrainInvocation, page: bool) -> None:
        model, rate = config.model, config.optimizer.learning_rate
        test_figure1.made_up(invocation.workdir, model.activation, rate, [0.9, 0.2], config.train.seed)

    monkeypatch.setattr(train, "run", trained)
    found = figures.run(cifar10.get_config(), FiguresInvocation(tmp_path, figure="1"))
    assert found["ratio"] == 1.0
    assert len(opened) == len(set(opened)) == 2 * (len(figure1.RATES) + figure1.SEEDS - 1)
