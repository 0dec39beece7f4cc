"""The contact sheet: each class's pictures are under its name, whatever the name is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alexnet_jax.data.prepared import contact_sheet, prepare
from alexnet_jax.data.prepared.prepared_set import PreparedSet
from alexnet_jax.modes import PrepareInvocation
from alexnet_jax.modes import prepare as mode
from tests.data.prepared.test_prepare import config_of

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 30), "blue": (30, 30, 220)}


def write_plain(folder: Path, classes: dict[str, tuple[int, int, int]], each: int) -> None:
    """Pictures of one colour a class, with a black frame that the central crop leaves out."""
    for name, colour in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(each):
            image = Image.new("RGB", (32, 32), "black")
            image.paste(colour, (4, 4, 28, 28))
            image.save(folder / name / f"{number}.png")


def blocks_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def prepared_of(folder: Path, **fields: Any) -> tuple[PreparedSet, Any]:
    config = config_of(folder / "p", folder / "d", encoding="raw", **fields)
    return prepare.open_or_prepare(config), config


def test_each_class_has_its_own_pictures_as_the_network_sees_them(tmp_path: Path) -> None:
    write_plain(tmp_path / "p", COLOURS, each=12)
    prepared, config = prepared_of(tmp_path)
    path = contact_sheet.draw_sheet(prepared, config.data)
    assert path == prepared.folder / "sheet.png"
    drawn = blocks_of(path)
    height = contact_sheet.LINE + 24 + 2 * contact_sheet.GAP
    for row, name in enumerate(["blue", "green", "red"]):
        top = contact_sheet.LINE + contact_sheet.GAP + row * height + contact_sheet.LINE
        for place in range(7):  # six of training, and the one of validation
            left = 4 * contact_sheet.GAP + place * (24 + contact_sheet.GAP)
            assert (drawn[top : top + 24, left : left + 24] == COLOURS[name]).all()
            between = drawn[top : top + 24, left + 24 : left + 24 + contact_sheet.GAP]
            assert (between == 255).all() == (place != 5)  # where the line is
    first = path.read_bytes()
    assert contact_sheet.draw_sheet(prepared, config.data) == path and path.read_bytes() == first


def test_of_many_classes_fifty_are_chosen_from_the_first_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shades = {f"{number:03d}": (number * 3, 100, 255 - number * 3) for number in range(60)}
    write_plain(tmp_path / "p", shades, each=2)
    prepared, config = prepared_of(tmp_path)
    titles: list[str] = []
    fitted = contact_sheet.fitted

    def noted(text: str, *rest: Any) -> str:
        titles.append(text)
        return fitted(text, *rest)

    monkeypatch.setattr(contact_sheet, "fitted", noted)
    path = contact_sheet.draw_sheet(prepared, config.data)
    assert path and "50 of 60 classes" in titles[0]
    assert [titles[1], titles[-1]] == ["0  000", "59  059"]
    assert len(titles) == 51
    drawn = {tuple(pixel) for pixel in blocks_of(path).reshape(-1, 3).tolist()}
    chosen = {tuple(shades[title.split()[1]]) for title in titles[1:]}
    assert chosen <= drawn
    assert not (set(shades.values()) - chosen) & drawn


def test_a_slice_of_training_shows_its_own_pictures(tmp_path: Path) -> None:
    write_plain(tmp_path / "p", {"red": COLOURS["red"], "blue": COLOURS["blue"]}, each=30)
    prepared, config = prepared_of(tmp_path, train_split="train[:3]")
    labels = [int(example["label"]) for example in prepared.builder.as_dataset(split="train[:3]").as_numpy_iterator()]
    shown = contact_sheet._pictures(prepared, config.data, "train[:3]", np.arange(2), 8)
    assert [len(images) for images in shown] == [labels.count(0), labels.count(1)]
    assert (shown[1] == COLOURS["red"]).all()


@pytest.mark.parametrize(
    "name", ["猫 и кот", "a" * 240, "x\u202ey\u0301", "عين", "\N{CAT FACE}", " leading", "tab\tbed", "-"]
)
def test_names_of_any_script_and_length_fit_in_a_line(tmp_path: Path, name: str) -> None:
    write_plain(tmp_path / "p", {name if len(name) < 99 else name[:80]: (9, 9, 200), "other": (9, 200, 9)}, each=2)
    prepared, config = prepared_of(tmp_path)
    path = contact_sheet.draw_sheet(prepared, config.data)
    assert path
    columns = blocks_of(path)[
        contact_sheet.LINE + contact_sheet.GAP : 2 * contact_sheet.LINE, :
    ]  # the first class's name
    assert (columns[:, -4 * contact_sheet.GAP :] == 255).all() and (columns != 255).any()


def test_prepare_says_where_the_sheet_lies_and_does_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_plain(tmp_path / "p", COLOURS, each=3)
    config = config_of(tmp_path / "p", tmp_path / "d")
    invocation = PrepareInvocation(tmp_path)
    said = mode.run(config, invocation)
    assert blocks_of(Path(said["sheet"])).shape[1] > 100
    Path(said["sheet"]).unlink()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    assert mode.run(config, invocation)["sheet"] is None
    assert "sheet.png' cannot be written (No space left on device)" in capsys.readouterr().err
    assert not list((tmp_path / "d").rglob("*sheet*"))
