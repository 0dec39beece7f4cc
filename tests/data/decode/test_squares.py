"""A picture file to an RGB square, against NumPy."""

import io

import numpy as np
import pytest
from PIL import Image

from alexnet_jax.data.decode import squares
from alexnet_jax.data.decode.decoder import Rules
from alexnet_jax.data.decode.squares import Picture, UnusablePicture
from tests.photographs import encoded, photograph

COLOUR = photograph(3)
PLENTY = 10**6


def read(image: Image.Image, form: str, **options: object) -> np.ndarray:
    file = io.BytesIO()
    image.save(file, form, **options)
    made = squares.rgb(file.getvalue(), PLENTY)
    assert made.mode == "RGB"
    return np.asarray(made).astype(int)


def near(image: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.abs(image - expected).mean() < 4)


def test_kinds_of_jpeg() -> None:
    colour = np.asarray(COLOUR).astype(int)
    grey = np.asarray(COLOUR.convert("L")).astype(int)[..., None] * [1, 1, 1]
    assert near(read(COLOUR, "JPEG", quality=95), colour)
    assert near(read(COLOUR, "JPEG", quality=95, progressive=True), colour)
    assert near(read(COLOUR.convert("L"), "JPEG", quality=95), grey)
    assert near(read(COLOUR.convert("CMYK"), "JPEG", quality=95), colour)


def test_kinds_of_png_and_webp() -> None:
    colour = np.asarray(COLOUR).astype(int)
    grey = np.asarray(COLOUR.convert("L")).astype(int)
    np.testing.assert_array_equal(read(COLOUR, "PNG"), colour)
    np.testing.assert_array_equal(read(COLOUR, "WEBP", lossless=True), colour)
    palette = COLOUR.quantize(64)
    np.testing.assert_array_equal(read(palette, "PNG"), np.asarray(palette.convert("RGB")))
    sixteen = Image.fromarray((grey * 257).astype(np.uint16))
    np.testing.assert_array_equal(read(sixteen, "PNG"), grey[..., None] * [1, 1, 1])
    black_and_white = COLOUR.convert("1")
    np.testing.assert_array_equal(
        read(black_and_white, "PNG"), np.asarray(black_and_white.convert("L"))[..., None] * [1, 1, 1]
    )


def test_what_is_transparent_lies_on_white() -> None:
    alpha = np.zeros((COLOUR.height, COLOUR.width), np.uint8)
    alpha[:, 20:40], alpha[:, 40:] = 128, 255
    image = COLOUR.copy()
    image.putalpha(Image.fromarray(alpha))
    share = alpha[..., None] / 255
    expected = np.asarray(COLOUR) * share + 255 * (1 - share)
    assert np.abs(read(image, "PNG") - expected).max() <= 1


def test_first_frame_and_orientation() -> None:
    frames = [photograph(i).quantize(32) for i in range(3)]
    for form in ("PNG", "WEBP"):
        moving = read(frames[0].convert("RGB"), form, save_all=True, append_images=frames[1:], lossless=True)
        np.testing.assert_array_equal(moving, np.asarray(frames[0].convert("RGB")))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the picture is to be turned clockwise by a quarter
    np.testing.assert_array_equal(read(COLOUR, "PNG", exif=exif), np.rot90(np.asarray(COLOUR), -1))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, this is text", "not a picture"),
        (encoded(COLOUR)[:-400], "[Tt]runcated"),
        (encoded(COLOUR, "PNG")[:2000], "[Tt]runcated"),
        (encoded(COLOUR)[:10], "damaged|not a picture"),
    ],
)
def test_unusable(data: bytes, reason: str) -> None:
    with pytest.raises(UnusablePicture, match=reason):
        squares.rgb(data, PLENTY)


def test_too_large_is_found_before_it_is_decoded() -> None:
    assert squares.rgb(encoded(COLOUR), 60 * 48).size == (60, 48)
    with pytest.raises(UnusablePicture, match="60x48 pixels"):
        squares.rgb(encoded(COLOUR), 60 * 48 - 1)


def triangle(length: int, new: int) -> np.ndarray:
    """[new, length] weights of the triangle filter that widens as the picture shrinks."""
    scale = length / new
    centre = (np.arange(new) + 0.5) * scale
    distance = np.abs(np.arange(length) + 0.5 - centre[:, None]) / max(scale, 1)
    weights = np.clip(1 - distance, 0, None)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("width", "height", "side"), [(90, 60, 32), (60, 91, 32), (33, 32, 32), (8, 8, 24), (40, 7, 9)]
)
def test_square_is_resized_with_antialiasing_then_cropped(width: int, height: int, side: int) -> None:
    image = photograph(5, width, height)
    shorter = min(width, height)
    new_width, new_height = round(width * side / shorter), round(height * side / shorter)
    exact = np.einsum(
        "yh,xw,hwc->yxc", triangle(height, new_height), triangle(width, new_width), np.asarray(image).astype(float)
    )
    top, left = (new_height - side) // 2, (new_width - side) // 2
    made = np.asarray(squares.square(image, side))
    assert made.shape == (side, side, 3)
    assert np.abs(made - exact[top : top + side, left : left + side]).max() <= 1.5  # two roundings


def test_a_square_of_that_size_is_left_as_it_is() -> None:
    image = photograph(1, 32, 32)
    np.testing.assert_array_equal(np.asarray(squares.square(image, 32)), np.asarray(image))


@pytest.mark.parametrize(("side", "darkest"), [(8, 0), (9, 0), (256, 0), (256, 255)])
def test_products_are_exact(side: int, darkest: int) -> None:
    square = np.random.default_rng(0).integers(darkest, 256, (side, side, 3), dtype=np.uint8)
    flat = square.reshape(-1, 3).astype(np.int64)
    np.testing.assert_array_equal(squares.products(square), flat.T @ flat)


def test_sums_are_over_what_is_stored() -> None:
    given = [Picture(str(i), 0, data=encoded(photograph(i))) for i in range(3)]
    given.insert(1, Picture("bad", 0, data=b"x"))
    made = squares.make_squares(given, 32, 50, Rules(PLENTY), summed=True)
    assert [reason != "" for reason in made.reasons] == [False, True, False, False]
    stored = [np.asarray(Image.open(io.BytesIO(data))) for data in made.stored if data]
    np.testing.assert_array_equal(made.total, np.sum(stored, axis=0, dtype=np.int64))
    raw = squares.make_squares(given, 32, 0, Rules(PLENTY), summed=True)
    assert not np.array_equal(raw.total, made.total)
    np.testing.assert_array_equal(np.frombuffer(raw.stored[0] or b"", np.uint8).reshape(32, 32, 3).shape, (32, 32, 3))
