"""A run's curves: its numbers by epoch, and the picture."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from alexnet_jax.loop import curves


def lines() -> list[curves.Line]:
    found: list[curves.Line] = []
    for step in range(10, 101, 10):
        rate = 0.01 if step < 50 else 0.001
        found.append({"step": step, "train/loss": 2 / step, "train/top1_error": 5 / step, "learning_rate": rate})
        if step % 20 == 0:
            error = 0.1 if step == 60 else 0.2
            errors = {"validation/top1_error": error, "validation/top5_error": 0.05}
            found.append({"step": step, "validation/loss": 3 / step, **errors})
    return found


def test_a_drop_is_behind_the_last_report_of_the_higher_rate() -> None:
    assert curves.drops_of(lines()) == [40]
    assert curves.drops_of([{"step": 1, "learning_rate": 0.1}, {"step": 2, "learning_rate": 0.2}]) == []


def test_the_curves_have_a_title_the_drops_and_the_best_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []

    class Kept(Figure):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            drawn.append(self)

    monkeypatch.setattr("matplotlib.figure.Figure", Kept)
    for classes in (10, 3):
        curves.draw_curves(lines(), 10, tmp_path / "curves.png", classes, best=60)
        losses, errors = drawn[-1].axes
        assert drawn[-1].get_suptitle() == tmp_path.name
        labels = [line.get_label() for line in errors.lines]
        assert labels[:2] == ["top-1, training", "top-1, validation"]
        assert ("top-5, validation" in labels) == (classes == 10)  # with three classes there is no top-5 error
        best = {line.get_label(): line for line in errors.lines}["best checkpoint, step 60"]
        np.testing.assert_allclose(np.asarray(best.get_xydata(), float), [[6, 10]])
        (drop,) = [line for line in losses.lines if line.get_label() == "lower rate"]
        np.testing.assert_allclose(np.asarray(drop.get_xdata(), float), 4)
    assert np.asarray(Image.open(tmp_path / "curves.png")).std() > 10


def test_points_are_by_epoch_and_in_order() -> None:
    points = curves.points_by_epoch(lines(), 20)
    assert points["validation/top1_error"] == [(1, 0.2), (2, 0.2), (3, 0.1), (4, 0.2), (5, 0.2)]
    assert points["train/loss"][:2] == [(0.5, 0.2), (1, 0.1)]
    assert curves.points_by_epoch([], 20) == {name: [] for name in curves.NAMES}
