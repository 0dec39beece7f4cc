"""Figure 3: kernels that were painted by hand have the numbers that they were painted with."""

import colorsys
import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alexnet_jax.figures import drawing, figure3
from alexnet_jax.figures.drawing import Place
from alexnet_jax.messages import UserError
from alexnet_jax.modes import FiguresInvocation, figures
from alexnet_jax.network import kernels
from tests.conftest import launch, launch_here, refusal, result, small_config
from tests.figures.made_up import made_up

MOST = 0.25  # the largest weight
GREYS = (1.0, 0.8, 0.6, 0.0)  # one of them is full: the scale
COLOURS = ((0.6, 0.2, 0.2), (0.8, 0.6, 0.2), (0.2, 1.0, 0.4), (0.4, 0.4, 0.2))  # fifths: whole numbers of 255


def weights_of(paint: tuple[float, float, float]) -> np.ndarray:
    """A kernel all of whose pixels are drawn in this colour."""
    return np.broadcast_to((np.array(paint) - 0.5) * 2 * MOST, (11, 11, 3))


PAINTED = np.stack([*(weights_of((grey,) * 3) for grey in GREYS), *map(weights_of, COLOURS)], axis=-1)


def drawn(workdir: Path, **more: Any) -> dict[str, Any]:
    return figures.run(None, FiguresInvocation(workdir, figure="3", **more))


def test_a_grey_tower_and_a_coloured_one_have_the_numbers_they_were_painted_with(tmp_path: Path) -> None:
    workdir = made_up(tmp_path / "run", small_config(), conv1={"kernel": PAINTED})
    found = drawn(workdir)
    assert found["figure"] == "3" and found["scale"] == MOST
    grey, coloured = found["towers"]
    assert (grey["tower"], grey["kernels"], grey["saturation"], grey["opponent_share"]) == (1, 4, 0, 0)
    # By hand, with Python's own HSV; and the energy as that of the two opponent directions, of unit length.
    saturation = np.mean([colorsys.rgb_to_hsv(*paint)[1] for paint in COLOURS])
    assert coloured["saturation"] == pytest.approx(saturation, rel=1e-6)
    weights = np.array(COLOURS) - 0.5
    opponent = (weights @ [1, -1, 0] / np.sqrt(2)) ** 2 + (weights @ [1, 1, -2] / np.sqrt(6)) ** 2
    assert coloured["opponent_share"] == pytest.approx(opponent.sum() / (weights**2).sum(), rel=1e-6)
    assert found["picture"] == str(workdir / "figure3.png")
    assert (workdir / "figure3.pdf").read_bytes().startswith(b"%PDF")
    rows = list(csv.DictReader((workdir / "figure3.csv").read_text().splitlines()))
    assert [(row["tower"], float(row["mean_saturation"])) for row in rows] == [
        ("1", 0.0),
        ("2", pytest.approx(saturation, rel=1e-6)),
    ]
    with Image.open(workdir / "figure3.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
        assert picture.width == 1660
    seen = {tuple(pixel) for pixel in pixels[::5, ::5].reshape(-1, 3).tolist()}
    for paint in (*((grey,) * 3 for grey in GREYS), *COLOURS):
        assert tuple(round(255 * one) for one in paint) in seen, paint


def test_weights_drawn_independently_have_two_thirds_of_their_energy_in_colours() -> None:
    kernel = np.random.default_rng(0).normal(0, 0.01, (11, 11, 3, 96)).astype(np.float32)
    for tower in kernels.by_tower(kernel, 2):
        assert tower.shape == (48, 11, 11, 3)
        found = kernels.colour(tower, float(np.abs(kernel).max()))
        assert found.opponent_share == pytest.approx(figure3.INDEPENDENT, abs=0.01)
    np.testing.assert_array_equal(kernels.by_tower(kernel, 2)[1][3], kernel[..., 51])


def test_the_papers_96_kernels_stand_in_rows_of_16() -> None:
    tower = np.arange(48 * 11 * 11 * 3, dtype=np.float32).reshape(48, 11, 11, 3)
    sheet = kernels.sheet(tower, float(tower.max()))
    assert sheet.shape == (3 * 12 - 1, 16 * 12 - 1, 3)
    expected = np.round(127.5 + 127.5 * tower[17] / tower.max())  # the second of the second row
    np.testing.assert_array_equal(sheet[12:23, 12:23], expected)
    assert (sheet[11] == 255).all() and (sheet[:, 11] == 255).all()


def test_one_tower_is_shown_alone_and_zeros_are_no_colour(tmp_path: Path) -> None:
    config = small_config()
    config.model.towers = 1
    workdir = made_up(tmp_path / "run", config, conv1={"kernel": np.zeros((11, 11, 3, 8))})
    (only,) = drawn(workdir)["towers"]
    assert only == {"tower": 1, "kernels": 8, "saturation": 0.0, "opponent_share": 0.0}


def test_a_table_over_runs(tmp_path: Path, capsys: Any) -> None:
    folders = [
        made_up(tmp_path / "a", small_config(), conv1={"kernel": PAINTED}),
        made_up(tmp_path / "b $x$", small_config(), conv1={"kernel": PAINTED[..., ::-1]}),
    ]
    found = drawn(tmp_path / "out", runs=tuple(map(str, folders)))
    first, second = ([tower["opponent_share"] for tower in one["towers"]] for one in found["runs"])
    assert first == second[::-1] and first[0] == 0 < first[1]
    assert found["picture"] == str(tmp_path / "out/figure3.png")
    lines = capsys.readouterr().err.splitlines()
    share, saturation = f"{first[1]:.1%}", f"{found['runs'][0]['towers'][1]['saturation']:.3f}"
    assert [line.split()[-4:] for line in lines if line.startswith("a ")] == [
        ["1", "4", "0.000", "0.0%"],
        ["2", "4", saturation, share],
    ]
    assert len((tmp_path / "out/figure3.csv").read_text().splitlines()) == 5


def test_weights_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    kernel = PAINTED.copy()
    kernel[0, 0, 0, 0] = np.nan
    with pytest.raises(UserError, match=r"conv1 of the checkpoint of step 0 .* no numbers"):
        drawn(made_up(tmp_path / "run", small_config(), conv1={"kernel": kernel}))


def test_where_a_figure_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workdir = made_up(tmp_path / "run", small_config())
    found = drawn(workdir, output=str(tmp_path / "new/kernels.png"))
    assert found["picture"] == str(tmp_path / "new/kernels.png")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"kernels.png", "kernels.pdf", "kernels.csv"}
    for output, words in (
        (str(tmp_path / "new/kernels.png"), "exists already"),
        (str(tmp_path / "kernels.pdf"), r"is not FILE\.png"),
        (str(workdir / "config.json/kernels.png"), "is a file"),
        ("/proc/none/kernels.png", "--output=/proc/none/kernels.png cannot be written"),
    ):
        with pytest.raises(UserError, match=words):
            drawn(workdir, output=output)
    # Of a run's own folder the remedy is another place; asked before anything is computed.
    (workdir / "figure3.pdf").mkdir()
    with pytest.raises(UserError, match=r"figure3\.pdf' cannot be written \(Is a directory\).* --output=FILE\.png"):
        drawn(workdir)
    assert not [path.name for path in workdir.iterdir() if path.name.startswith(".figure3")]
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match=r"no permission to write in .* another place with --output=FILE\.png"):
        drawing.require_writable(Place(workdir / "figure3.png"))


def test_as_a_user_runs_it(tmp_path: Path) -> None:
    workdir = made_up(tmp_path / "run", small_config(), conv1={"kernel": PAINTED})
    assert result(launch("--mode=figures", "--figure=3", f"--workdir={workdir}"))["towers"][0]["saturation"] == 0
    for flags, words in (
        (("--figure=9", f"--workdir={workdir}"), "--figure=9 cannot be drawn; choose from 1, 3, 4, confusion, curves"),
        (("--figure=9",), "--figure=9 cannot be drawn; choose from 1, 3"),
        (("--figure=3",), "or --workdir=DIR, the folder of a run"),
        (("--figure=3", f"--workdir={tmp_path / 'none'}"), "holds no run"),
        (("--figure=3", f"--workdir={workdir}", "some.jpg"), "'some.jpg': only --figure=4 takes files"),
        (("--figure=confusion", f"--runs={workdir}"), "--runs is only for --figure=1, 3, curves"),
    ):
        assert words in refusal(launch_here("--mode=figures", *flags))
    for path in (workdir / "checkpoints").iterdir():
        path.rename(tmp_path / path.name)
    assert "checkpoint" in refusal(launch_here("--mode=figures", "--figure=3", f"--workdir={workdir}"))
