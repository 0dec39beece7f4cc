"""Which part of a picture becomes the square: its centre, its centre as torchvision has it, or all of it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet_jax.data.batches.training_statistics import training_statistics
from alexnet_jax.data.decode import colours, decoder
from alexnet_jax.data.decode.decoder import Part, Rules, square, square_of
from alexnet_jax.data.prepared import prepare
from alexnet_jax.data.prepared.statistics import load_statistics
from configs import alexnet
from tests.data.decode.test_decoder import saved
from tests.data.decode.test_squares import triangle
from tests.data.prepared.test_prepare import SIDE, config_of
from tests.photographs import photograph, write_folder

PLENTY = 10**8
# Shorter side and longer; of some the longer one's new length is rounded down, of some the room beside the crop is odd.
ODD = [(501, 375), (333, 499), (640, 427), (427, 640), (257, 256), (259, 777), (97, 61), (300, 300), (1023, 301)]


def torchvisions(image: Image.Image) -> np.ndarray:
    """The preset's 224x224 pixels before they are scaled: float64, never rounded.

    The shorter side becomes 256 and the longer int(256 long / short), bilinear and without aliasing; the crop
    starts at round((size - 224) / 2) in either direction, halves to the even number.
    """
    width, height = image.size
    short, long = sorted(image.size)
    new_long = int(256 * long / short)
    new_width, new_height = (256, new_long) if width <= height else (new_long, 256)
    down, across = triangle(height, new_height), triangle(width, new_width)
    top, left = round((new_height - 224) / 2.0), round((new_width - 224) / 2.0)
    pixels = np.asarray(image).astype(float)
    return np.einsum("yh,xw,hwc->yxc", down[top : top + 224], across[left : left + 224], pixels, optimize=True)


def central_view(image: Image.Image, part: Part) -> np.ndarray:
    """The crop that evaluation takes from the prepared square of 256."""
    return np.asarray(square(image, 256, part)).astype(float)[16:240, 16:240]


@pytest.mark.parametrize("size", ODD)
def test_the_central_view_is_that_of_torchvisions_preset(size: tuple[int, int]) -> None:
    image = photograph(3, *size)
    difference = np.abs(central_view(image, "crop_down") - torchvisions(image))
    # Pillow rounds to whole levels twice, where the statement never does.
    assert (difference <= 1).mean() >= 0.999
    assert difference.max() <= 1.5


@pytest.mark.parametrize("size", ODD)
def test_the_preset_itself_gives_the_same_numbers(size: tuple[int, int]) -> None:
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    image = photograph(3, *size)
    theirs = models.AlexNet_Weights.IMAGENET1K_V1.transforms()(image).numpy().transpose(1, 2, 0)
    data = alexnet.get_config("torchvision").data
    ours = (central_view(image, "crop_down") - data.mean_rgb) / data.stddev_rgb
    assert (np.abs(ours - theirs) * data.stddev_rgb <= 1.01).mean() >= 0.999


def test_without_its_rounding_the_view_is_another() -> None:
    image = photograph(3, 640, 427)
    assert (np.abs(central_view(image, "crop") - torchvisions(image)) <= 1).mean() < 0.9


@pytest.mark.parametrize("size", [(90, 60), (60, 91), (33, 32), (8, 9), (40, 7), (32, 32)])
def test_a_squeezed_picture_is_pillows_resize_of_all_of_it(size: tuple[int, int]) -> None:
    image = photograph(4, *size)
    made = np.asarray(square(image, 32, "squeeze"))
    np.testing.assert_array_equal(made, np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR)))
    exact = np.einsum("yh,xw,hwc->yxc", triangle(size[1], 32), triangle(size[0], 32), np.asarray(image).astype(float))
    assert np.abs(made - exact).max() <= 1.5


@pytest.mark.parametrize("part", ["crop_down", "squeeze"])
@pytest.mark.parametrize("size", [(150, 100), (80, 170), (91, 90)])
def test_large_pictures_become_the_same_squares_a_part_at_a_time(
    part: Part, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = photograph(7, *size)
    monkeypatch.setattr(decoder, "LARGE", 1000)
    monkeypatch.setattr(colours, "BAND", 1000)
    made = np.asarray(square_of(saved(image, "PNG"), 32, Rules(PLENTY, part=part)).image)
    np.testing.assert_array_equal(made, np.asarray(square(image, 32, part)))


def test_a_squeezed_set_lies_beside_the_cropped_one(tmp_path: Path) -> None:
    write_folder(tmp_path / "p", {"cat": 6, "dog": 6})
    cropped = prepare.open_or_prepare(config_of(tmp_path / "p", tmp_path / "d", encoding="raw"))
    config = config_of(tmp_path / "p", tmp_path / "d", encoding="raw", square="squeeze")
    squeezed = prepare.open_or_prepare(config)
    assert squeezed.folder != cropped.folder
    means = [load_statistics(made.folder / "preprocessing.npz", SIDE).mean_image for made in (cropped, squeezed)]
    assert np.abs(means[0] - means[1]).max() > 1


def test_three_numbers_take_the_place_of_the_mean_image(tmp_path: Path) -> None:
    write_folder(tmp_path / "p", {"cat": 6, "dog": 6})
    config = config_of(tmp_path / "p", tmp_path / "d")
    made = prepare.open_or_prepare(config)
    own = training_statistics(made, config)
    config.data.mean_rgb = (123.675, 116.28, 103.53)
    given = training_statistics(made, config)
    everywhere = np.broadcast_to(np.asarray(config.data.mean_rgb, np.float32), (32, 32, 3))
    np.testing.assert_array_equal(given.mean_image, everywhere)
    np.testing.assert_array_equal(given.rgb_covariance, own.rgb_covariance)
