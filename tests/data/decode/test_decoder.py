"""Picture files with metadata and damages of many kinds, decoded and compared with Pillow and by hand."""

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from alexnet_jax.data.decode import colours, decoder, jpeg
from alexnet_jax.data.decode.decoder import Rules, rgb, square, square_of
from alexnet_jax.data.decode.headers import UnusablePicture
from tests.photographs import encoded, photograph

PLENTY = 10**6
COLOUR = photograph(3, 120, 90)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def pillows(data: bytes) -> np.ndarray:
    """What Pillow alone makes of a good file."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def pixels(data: bytes, **rules: bool) -> np.ndarray:
    return np.asarray(rgb(data, PLENTY, **rules))


def chunk(name: bytes, body: bytes, wrong: bool = False) -> bytes:
    """A chunk of a PNG."""
    checksum = zlib.crc32(name + body) ^ wrong
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


def with_chunk(png: bytes, added: bytes, before: bytes = b"IDAT") -> bytes:
    at = png.index(before) - 4
    return png[:at] + added + png[at:]


def segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(10))
def test_each_orientation_is_pillows(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(COLOUR, form, exif=exif)
    np.testing.assert_array_equal(pixels(data), pillows(data))


@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "411"])
@pytest.mark.parametrize("size", [(120, 90), (17, 33), (1, 1), (2, 3), (97, 1)])
def test_pixels_of_jpegs_are_pillows(subsampling: str, size: tuple[int, int]) -> None:
    image = COLOUR.resize(size)
    data = simplejpeg.encode_jpeg(np.array(image), 80, "RGB", subsampling)
    np.testing.assert_array_equal(pixels(data), pillows(data))
    for mode in ("RGB", "L", "CMYK"):
        for progressive in (False, True):
            data = saved(image.convert(mode), "JPEG", quality=80, progressive=progressive)
            np.testing.assert_array_equal(pixels(data), pillows(data))


PNG, JPEG, WEBP = encoded(COLOUR, "PNG"), encoded(COLOUR), saved(COLOUR, "WEBP", lossless=True)
LONG = 3 << 20  # bytes of metadata
ICC = b"x\0\0" + zlib.compress(bytes(LONG))
GOOD: dict[str, tuple[bytes, bytes]] = {  # each with the same picture without what is odd about it
    "EXIF that is noise": (with_segments(JPEG, segment(0xE1, b"Exif\0\0" + bytes(range(256)))), JPEG),
    "EXIF that is cut": (with_segments(JPEG, segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")), JPEG),
    "EXIF that is empty": (with_segments(JPEG, segment(0xE1, b"Exif\0\0")), JPEG),
    "EXIF of a PNG that is noise": (with_chunk(PNG, chunk(b"eXIf", b"II*\0" + b"\xff" * 40)), PNG),
    "a Photoshop block that is cut": (with_segments(JPEG, segment(0xED, b"Photoshop 3.0\x008BIM\x03")), JPEG),
    "an ICC profile over a megabyte": (with_chunk(PNG, chunk(b"iCCP", ICC)), PNG),
    "the same in a JPEG": (
        with_segments(JPEG, *(segment(0xE2, b"ICC_PROFILE\0" + bytes((i + 1, 40)) + bytes(60000)) for i in range(40))),
        JPEG,
    ),
    "an ICC profile by another method": (with_chunk(PNG, chunk(b"iCCP", b"x\0\x07" + bytes(9))), PNG),
    "a text over a megabyte": (with_chunk(PNG, chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(LONG)))), PNG),
    "a hundred texts of a megabyte": (
        with_chunk(PNG, chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(1 << 20))) * 100),
        PNG,
    ),
    "a text with a wrong checksum": (with_chunk(PNG, chunk(b"tEXt", b"note\0hello", wrong=True)), PNG),
    "a time with a wrong checksum": (with_chunk(PNG, chunk(b"tIME", bytes(7), wrong=True)), PNG),
    "an animation's chunk that is cut": (with_chunk(PNG, chunk(b"acTL", b"\0\0")), PNG),
    "a chunk that nobody knows": (with_chunk(PNG, chunk(b"abCd", b"what")), PNG),
    "a PNG without its end": (PNG[:-12], PNG),
    "a PNG with more behind it": (PNG + b"more", PNG),
    "a JPEG without its end marker": (JPEG[:-2], JPEG),
    "a JPEG with half of it": (JPEG[:-1], JPEG),
    "a progressive JPEG without its end marker": (
        saved(COLOUR, "JPEG", progressive=True)[:-2],
        saved(COLOUR, "JPEG", progressive=True),
    ),
    "a JPEG with more behind it": (JPEG + b"\0" * 999, JPEG),
    "a JPEG with noise between two segments": (JPEG[:20] + b"abc" + JPEG[20:], JPEG),
    "a JPEG with zeros before its end marker": (JPEG[:-2] + b"\0" * 500 + JPEG[-2:], JPEG),
    "a progressive JPEG with zeros before it": (
        saved(COLOUR, "JPEG", progressive=True)[:-2] + b"\0" * 99 + b"\xff\xd9",
        saved(COLOUR, "JPEG", progressive=True),
    ),
    "a JPEG of JFIF 3": (JPEG.replace(b"JFIF\0\x01", b"JFIF\0\x03"), JPEG),
    "a comment over a segment's end that is none": (with_segments(JPEG, segment(0xFE, b"\xff\xd9" * 99)), JPEG),
    "a WebP with more behind it": (WEBP + b"more", WEBP),
}


@pytest.mark.parametrize("what", GOOD)
def test_good_pixels_are_taken_whatever_stands_beside_them(what: str) -> None:
    odd, plain = GOOD[what]
    assert odd != plain
    np.testing.assert_array_equal(pixels(odd), pillows(plain))


@pytest.mark.parametrize("form", ["a text that is packed", "a text that is not", "a JPEG's XMP", "ImageMagick's EXIF"])
def test_orientations_in_texts_are_obeyed(form: str) -> None:
    xmp = b'<x tiff:Orientation="6"/>'
    exif = Image.Exif()
    exif[0x0112] = 6
    digits = exif.tobytes().hex()
    head = b"XML:com.adobe.xmp\0"
    data = {
        "a text that is packed": with_chunk(PNG, chunk(b"iTXt", head + b"\x01\0\0\0" + zlib.compress(xmp))),
        "a text that is not": with_chunk(PNG, chunk(b"iTXt", head + b"\0\0\0\0" + xmp)),
        "a JPEG's XMP": with_segments(JPEG, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)),
        "ImageMagick's EXIF": with_chunk(
            PNG,
            chunk(
                b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(f"\nexif\n{len(digits) // 2}\n{digits}".encode())
            ),
        ),
    }[form]
    assert pixels(data).shape == (120, 90, 3)
    np.testing.assert_array_equal(pixels(data), pillows(data))


def overwritten(data: bytes, at: int, count: int = 20) -> bytes:
    """Other bytes from `at` on."""
    return data[:at] + bytes(b ^ 0x5A for b in data[at : at + count]) + data[at + count :]


PHOTOGRAPH = photograph(0, 500, 375)
BASELINE, PROGRESSIVE = saved(PHOTOGRAPH, "JPEG", quality=90), saved(PHOTOGRAPH, "JPEG", quality=90, progressive=True)
RESTARTED = saved(PHOTOGRAPH, "JPEG", quality=90, restart_marker_blocks=8)
BIG_PNG, BIG_WEBP = saved(PHOTOGRAPH, "PNG"), saved(PHOTOGRAPH, "WEBP", quality=90)
DAMAGED: dict[str, tuple[bytes, str]] = {
    "20 bytes in a JPEG": (overwritten(BASELINE, len(BASELINE) // 2), "damaged pixels .Corrupt JPEG data"),
    "20 bytes in a progressive JPEG": (overwritten(PROGRESSIVE, len(PROGRESSIVE) // 2), "damaged pixels .Corrupt"),
    "20 bytes in a grey JPEG": (
        overwritten(grey := saved(PHOTOGRAPH.convert("L"), "JPEG", quality=90), len(grey) // 2),
        "damaged pixels .Corrupt",
    ),
    "20 bytes in a CMYK JPEG": (
        overwritten(inks := saved(PHOTOGRAPH.convert("CMYK"), "JPEG", quality=90), len(inks) // 2),
        "damaged pixels .Corrupt",
    ),
    "20 bytes in a JPEG of JFIF 3": (
        overwritten(BASELINE, len(BASELINE) // 2).replace(b"JFIF\0\x01", b"JFIF\0\x03"),
        "damaged pixels .Corrupt",
    ),
    "noise before the end marker": (BASELINE[:-2] + b"noise" * 9 + b"\xff\xd9", "damaged pixels .Corrupt"),
    "a restart that is another": (RESTARTED.replace(b"\xff\xd3", b"\xff\xd5", 1), "damaged pixels .Corrupt"),
    "half a JPEG": (BASELINE[: len(BASELINE) // 2], "truncated"),
    "half a JPEG with an end marker": (BASELINE[: len(BASELINE) // 2] + b"\xff\xd9", "damaged pixels .Corrupt"),
    "a JPEG that lacks its last pixels": (BASELINE[:-12], "truncated"),
    "a third of a progressive JPEG": (PROGRESSIVE[: len(PROGRESSIVE) // 3], "truncated"),
    "20 bytes in a PNG": (overwritten(BIG_PNG, len(BIG_PNG) // 2), "damaged pixels .the checksum of the chunk IDAT"),
    "a checksum in a PNG": (overwritten(BIG_PNG, len(BIG_PNG) - 16, 1), "damaged pixels .the checksum of the chunk"),
    "half a PNG": (BIG_PNG[: len(BIG_PNG) // 2], "truncated"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_pixels_are_rejected_unless_they_are_accepted(what: str) -> None:
    data, reason = DAMAGED[what]
    with pytest.raises(UnusablePicture, match=reason):
        rgb(data, PLENTY)
    taken = pixels(data, accept_damaged=True)
    assert taken.shape == (375, 500, 3)
    upper = np.abs(taken[:90].astype(int) - np.asarray(PHOTOGRAPH)[:90])
    assert upper.mean() < 12  # what comes before the damage is there; of progressive ones, in coarse


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (BIG_WEBP[: len(BIG_WEBP) // 2], "truncated"),
        (BIG_WEBP[:-2], "truncated"),
        (BIG_WEBP[:25], "damaged header .truncated"),
        (with_chunk(encoded(COLOUR.quantize(9), "PNG"), chunk(b"tRNS", b"\0\x01", wrong=True)), "checksum.*tRNS"),
        (PNG[:33], "truncated"),
        (PNG[:20], "damaged header"),
        (JPEG[:300], "damaged header .truncated"),
        (b"\xff\xd8\xff\xd9", "damaged header"),
        (JPEG.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"), "of 3 channels of 12 bits"),
    ],
)
def test_what_has_no_pixels_is_rejected(data: bytes, reason: str) -> None:
    with pytest.raises(UnusablePicture, match=reason):
        rgb(data, PLENTY)


def test_a_jpeg_that_only_takes_time_is_rejected() -> None:
    at = PROGRESSIVE.rindex(b"\xff\xda")
    scan = PROGRESSIVE[at:-2]
    with pytest.raises(UnusablePicture, match=r"a JPEG of \d+ scans"):
        rgb(PROGRESSIVE[:-2] + scan * 200 + b"\xff\xd9", PLENTY)


def with_alpha(image: Image.Image) -> Image.Image:
    made = image.convert("RGBA")
    made.putalpha(image.convert("L"))
    return made


@pytest.mark.parametrize(
    "kind",
    [
        lambda i: i,
        lambda i: i.convert("L"),
        lambda i: i.quantize(40),
        with_alpha,
        lambda i: with_alpha(i).convert("LA"),
    ],
)
@pytest.mark.parametrize("size", [(150, 100), (80, 170), (90, 90)])
def test_large_pictures_become_the_same_squares_a_part_at_a_time(
    kind: Callable[[Image.Image], Image.Image], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = saved(kind(photograph(7, *size)), "PNG")
    whole = np.asarray(square(rgb(data, PLENTY), 32))
    monkeypatch.setattr(decoder, "LARGE", 1000)
    monkeypatch.setattr(colours, "BAND", 1000)
    np.testing.assert_array_equal(np.asarray(square_of(data, 32, Rules(PLENTY)).image), whole)


def test_large_jpegs_are_shrunk_as_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    image, sizes, decode = photograph(1, 400, 300), [], jpeg.decode

    def noted(*arguments: Any) -> Image.Image:
        made = decode(*arguments)
        sizes.append(made.size)
        return made

    monkeypatch.setattr(jpeg, "decode", noted)
    exif = Image.Exif()
    exif[0x0112] = 6
    for mode in ("RGB", "L", "CMYK"):
        data = saved(image.convert(mode), "JPEG", quality=95, exif=exif)
        whole = np.asarray(square(rgb(data, PLENTY), 32)).astype(int)
        with monkeypatch.context() as patch:
            patch.setattr(decoder, "LARGE", 400 * 300 // 15)
            patch.setattr(decoder, "LEAST_SIDE", 64)
            made = np.asarray(square_of(data, 32, Rules(PLENTY)).image)
        assert np.abs(made - whole).mean() < 3
    assert sizes == [(400, 300), (100, 75)] * 3


def test_a_jpeg_that_simplejpeg_does_not_know_is_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise ValueError("Could not determine subsampling type for JPEG image")

    monkeypatch.setattr(simplejpeg, "decode_jpeg", unknown)
    for mode in ("RGB", "L", "CMYK"):
        data = saved(COLOUR.convert(mode), "JPEG")
        np.testing.assert_array_equal(pixels(data), pillows(data))
        with pytest.raises(UnusablePicture, match="truncated"):
            rgb(data[:-400], PLENTY)


# The peak is that of the memory, which begins anew with the program; getrusage's is at first that of who started it.
MEASURED = """
import sys
from pathlib import Path
from alexnet_jax.data.decode import decoder
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])  # KiB
data = open(sys.argv[1], "rb").read()
before = peak()
decoder.square_of(data, 256, decoder.Rules(10**8))
print((peak() - before) / 1024)
"""


def mebibytes_for(path: Path) -> float:
    """The growth in memory of a process that makes a square of the file."""
    if not Path("/proc/self/status").is_file():
        pytest.skip("there is no /proc")
    done = subprocess.run([sys.executable, "-c", MEASURED, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "form"), [("RGBA", "PNG"), ("LA", "PNG"), ("I;16", "PNG"), ("RGB", "JPEG"), ("CMYK", "JPEG")]
)
def test_a_hundred_million_pixels_take_half_a_gigabyte(mode: str, form: str, tmp_path: Path) -> None:
    image = Image.new(mode, (10_000, 10_000), (200, 100, 50, 128)[: len(Image.new(mode, (1, 1)).getbands())])
    if mode == "I;16":
        image = Image.fromarray(np.full((10_000, 10_000), 40_000, np.uint16))
    image.save(tmp_path / "large", form)
    assert 1 < mebibytes_for(tmp_path / "large") < 600


@pytest.mark.slow
def test_the_largest_webp_takes_less_than_two_gibibytes(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6_100, 16_383, 4), np.uint8)
    Image.fromarray(noise, "RGBA").save(tmp_path / "large", "WEBP", quality=50, method=0)
    assert 500 < mebibytes_for(tmp_path / "large") < 2048
