"""Greys of 16 bits and colour profiles, against formulas in float64."""

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from alexnet_jax.data.decode.decoder import Rules, square_of
from tests.data.decode.test_decoder import COLOUR, PLENTY, chunk, pixels, saved, with_chunk
from tests.photographs import encoded

GREY = np.asarray(COLOUR.convert("L")).astype(np.uint16)


def deep(values: np.ndarray, significant: int = 0, **options: object) -> bytes:
    """A grey PNG of 16 bits."""
    data = saved(Image.fromarray(values.astype(np.uint16)), "PNG", **options)
    return with_chunk(data, chunk(b"sBIT", bytes((significant,)))) if significant else data


def test_greys_of_sixteen_bits_are_scaled_from_their_whole_range_whatever_is_significant() -> None:
    exact = GREY.astype(np.float64)

    def error(data: bytes, divisor: float = 1) -> float:
        return float(np.abs(pixels(data)[..., 0] - exact / divisor).max())

    assert error(deep(GREY * 257)) == 0
    twelve = np.round(exact * 4095 / 255).astype(np.uint16)
    assert error(deep(twelve << 4 | twelve >> 8, significant=12)) <= 0.6  # scaled to 16 bits, as PNG requires
    for significant in (0, 12):  # not scaled: 1/16 of the range, and as dark as the file says
        assert error(deep(twelve, significant=significant), divisor=65535 / 4095) <= 0.6
    values = np.random.default_rng(0).integers(0, 2**16, (64, 48))
    np.testing.assert_array_equal(pixels(deep(values))[..., 0], np.floor(values / 257 + 0.5))
    holes = np.where(GREY == GREY[0, 0], 255, GREY)
    np.testing.assert_array_equal(pixels(deep(GREY * 257, transparency=int(GREY[0, 0]) * 257))[..., 0], holes)


def test_a_sliver_of_the_range_is_noticed() -> None:
    def is_dim(data: bytes) -> bool:
        return square_of(data, 32, Rules(PLENTY)).dim

    assert is_dim(deep(GREY * 16))
    assert is_dim(deep(GREY * 31))
    assert not is_dim(deep(GREY * 257))
    assert is_dim(deep(GREY * 16 + GREY // 16, significant=12))
    assert not is_dim(encoded(Image.fromarray((GREY // 16).astype(np.uint8)), "PNG"))  # 8 bits: a dark picture


def profile_of(gamma: float) -> bytes:
    """An ICC matrix profile, made by hand, for a screen with the primaries of sRGB and another curve."""

    def s15(*numbers: float) -> bytes:
        return b"".join(struct.pack(">i", round(n * 65536)) for n in numbers)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {
        b"rXYZ": b"XYZ \0\0\0\0" + s15(0.4360, 0.2225, 0.0139),
        b"gXYZ": b"XYZ \0\0\0\0" + s15(0.3851, 0.7169, 0.0971),
        b"bXYZ": b"XYZ \0\0\0\0" + s15(0.1431, 0.0606, 0.7139),
        b"wtpt": b"XYZ \0\0\0\0" + s15(0.9642, 1.0, 0.8249),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"lcms", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head = (head + struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp").ljust(68, b"\0") + s15(0.9642, 1.0, 0.8249)
    return head.ljust(128, b"\0") + table + body


def to_srgb(values: np.ndarray, gamma: float) -> np.ndarray:
    """By the formula of IEC 61966-2-1, in float64."""
    linear = (values / 255.0) ** gamma
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_colours_are_converted_to_srgb_where_that_is_asked_for(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    data = saved(COLOUR, form, icc_profile=profile_of(1.0), **options)
    plain = pixels(saved(COLOUR, form, **options))
    np.testing.assert_array_equal(pixels(data), plain)
    expected = to_srgb(plain, gamma=1.0)
    assert np.abs(expected - plain).mean() > 30
    assert np.abs(pixels(data, obey_profiles=True) - expected).max() <= 2
    assert square_of(data, 32, Rules(PLENTY)).profile == "other"


def test_colours_of_srgb_and_of_no_profile_are_left_to_the_byte() -> None:
    for profile in (None, SRGB, b"no profile at all", profile_of(1.0)[:200]):
        data = saved(COLOUR, "PNG", icc_profile=profile)
        np.testing.assert_array_equal(pixels(data, obey_profiles=True), np.asarray(COLOUR))
    kinds = {p: square_of(saved(COLOUR, "PNG", icc_profile=p), 32, Rules(PLENTY)).profile for p in (None, SRGB, b"no")}
    assert kinds == {None: "", SRGB: "sRGB", b"no": "broken"}


def test_profiles_of_greys_palettes_and_what_is_transparent() -> None:
    grey = COLOUR.convert("L")
    expected = to_srgb(np.asarray(grey), gamma=1.0)
    lit = saved(grey, "PNG", icc_profile=profile_of(1.0))
    assert np.abs(pixels(lit, obey_profiles=True)[..., 1] - expected).max() <= 2
    palette = COLOUR.quantize(32)
    lit = saved(palette, "PNG", icc_profile=profile_of(1.0))
    expected = to_srgb(np.asarray(palette.convert("RGB")), gamma=1.0)
    assert np.abs(pixels(lit, obey_profiles=True) - expected).max() <= 2
    half = COLOUR.copy()
    half.putalpha(128)
    expected = to_srgb(np.asarray(COLOUR), gamma=1.0) * 128 / 255 + 255 * 127 / 255
    assert np.abs(pixels(saved(half, "PNG", icc_profile=profile_of(1.0)), obey_profiles=True) - expected).max() <= 3
    inks = saved(COLOUR.convert("CMYK"), "JPEG", icc_profile=profile_of(1.0))  # a profile that is not for inks
    np.testing.assert_array_equal(pixels(inks, obey_profiles=True), pixels(inks))
