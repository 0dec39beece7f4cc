"""Curves of several runs by epoch, from made-up numbers."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax.data.prepared.statistics import Statistics
from alexnet_jax.figures import curves
from alexnet_jax.messages import UserError
from alexnet_jax.modes import FiguresInvocation, figures
from alexnet_jax.runs.folder import create_run, open_run
from configs import digits
from tests.conftest import launch, launch_here, refusal, result


def run_of(folder: Path, errors: list[float], steps_per_epoch: int, classes: str = "ab") -> Path:
    """A run that was validated twice an epoch with these errors, and reported its training loss each time."""
    create_run(folder, digits.get_config(), Statistics(np.zeros((72, 72, 3), np.float32), np.eye(3)), tuple(classes))
    lines = []
    for number, error in enumerate(errors, 1):
        step = number * steps_per_epoch // 2
        lines.append({"step": step, "epoch": step / steps_per_epoch, "train/loss": 2 * error})
        validation = {"loss": 3 * error, "top1_error": error, "top5_error": error / 2}
        lines.append({"step": step, **{f"validation/{name}": value for name, value in validation.items()}})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_runs_of_other_lengths_are_drawn_by_epoch(tmp_path: Path) -> None:
    folders = [
        run_of(tmp_path / "a" / "run", [0.9, 0.5, 0.3, 0.4], 100),
        run_of(tmp_path / "b" / "run", [0.8, 0.2, 0.2], 1000),
    ]
    found = figures.run(None, FiguresInvocation(tmp_path / "out", figure="curves", runs=tuple(map(str, folders))))
    assert [(one["best_epoch"], one["best_top1_error"], one["epoch"]) for one in found["runs"]] == [
        (1.5, 0.3, 2.0),
        (1.0, 0.2, 1.5),  # the first of those that tie
    ]
    assert found["runs"][0]["last"] == {
        "train/loss": 0.8,
        "validation/loss": pytest.approx(1.2),
        "validation/top1_error": 0.4,
        "validation/top5_error": 0.2,
    }
    assert found["picture"] == str(tmp_path / "out/curves-by-epoch.png")
    rows = list(csv.DictReader((tmp_path / "out/curves-by-epoch.csv").read_text().splitlines()))
    assert [(row["run"], float(row["epoch"])) for row in rows] == [
        *((str(folders[0]), epoch) for epoch in (0.5, 1.0, 1.5, 2.0)),
        *((str(folders[1]), epoch) for epoch in (0.5, 1.0, 1.5)),
    ]
    assert float(rows[4]["validation/top5_error"]) == 0.4


def test_of_five_classes_and_fewer_there_is_no_top_5_error(tmp_path: Path) -> None:
    few, many = (
        curves.of_run(open_run(run_of(tmp_path / classes, [0.9, 0.5], 10, classes))) for classes in ("abcde", "abcdef")
    )
    for runs, lines, title in (
        ([few], 1, "validation, top-1"),
        ([many], 2, "validation, thick: top-1, thin: top-5"),
        ([few, many], 3, "validation, thick: top-1, thin: top-5"),
    ):
        errors = curves._drawn(runs, [one.name for one in runs]).axes[1]
        assert (len(errors.lines), errors.get_title()) == (lines, title)


def test_a_run_alone_and_runs_without_numbers(tmp_path: Path) -> None:
    folder = run_of(tmp_path / "run", [0.5, 0.25], 10)
    done = launch("--mode=figures", "--figure=curves", f"--workdir={folder}")
    assert result(done)["runs"][0]["best_top1_error"] == 0.25
    assert "run: best top-1 error 25.00% at epoch 1.00" in done.stderr
    empty = run_of(tmp_path / "empty", [], 10)
    said = refusal(launch_here("--mode=figures", "--figure=curves", f"--runs={folder},{empty}"))
    assert f"the run in {empty} has no numbers yet" in said
    with pytest.raises(UserError, match="holds no run"):
        figures.run(None, FiguresInvocation(tmp_path, figure="curves", runs=(str(tmp_path / "none"),)))
