"""A picture file's bytes to pixels and to a square, within a bounded memory.

Only JPEG, PNG and WebP are opened, by their contents; no decoder is started for any other format. Metadata is read
here and not by the decoder, so that damaged metadata never prevents reading the pixels.
"""

import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import PIL.WebPImagePlugin  # noqa: F401 - or Pillow would load all its plug-ins to find it
from PIL import Image, ImageFile

from alexnet_jax.data import centre_offset
from alexnet_jax.data.decode import colours, jpeg, png, worker_processes
from alexnet_jax.data.decode.headers import JPEG, PNG, Header, Metadata, UnusablePicture, format_of, read_webp_header

Image.MAX_IMAGE_PIXELS = None  # config.data.max_pixels is the limit, and it rejects instead of warning

Part = Literal["crop", "crop_down", "squeeze"]  # the part that becomes the square, see `square`
LARGE = 50_000_000  # pixels: one process at a time decodes a larger picture, and a larger JPEG is shrunk
LARGE_TO_CONVERT = 24_000_000  # pixels: the same for a picture that is converted to RGB
LARGE_FILE = 64 << 20  # bytes: a larger file is read by one process at a time
LEAST_SIDE = 1024  # pixels of the shorter side: a large JPEG is not shrunk below it
BYTES_A_PIXEL = 8  # of a file, at most: four channels of 16 bits
_GLOBALS_LOCK = threading.RLock()  # for globals of Pillow and `warnings`
ORIENTATION = 0x0112  # EXIF's tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Rules:
    """Which pictures are accepted, and how they are decoded."""

    max_pixels: int
    accept_damaged: bool = False  # lost pixels are replaced by what the decoder makes of them
    obey_profiles: bool = False  # colours are converted from the picture's profile to sRGB
    part: Part = "crop"  # becomes the square, see `square`

    @property
    def max_bytes(self) -> int:
        """The largest file: `max_pixels` pixels, and the metadata."""
        return BYTES_A_PIXEL * self.max_pixels + png.MAX_METADATA


@dataclass(frozen=True)
class Square:
    """A picture's square, and what may be worth a warning."""

    image: Image.Image  # RGB
    profile: str  # its colour profile: '', 'sRGB', 'other', or 'broken' if it cannot be used
    dim: bool  # it has 16 bits a channel, and uses less than an eighth of their range


def rules_of(data: Any) -> Rules:
    """The rules in `config.data`, a ConfigDict; the worker processes need not import its class."""
    return Rules(data.max_pixels, data.accept_damaged, data.colour_profiles == "srgb", data.square)


@contextmanager
def _unusable() -> Iterator[None]:
    """Turns whatever a decoder raises into UnusablePicture."""
    try:
        yield
    except (UnusablePicture, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise many kinds for damaged pixels
        raise UnusablePicture(f"truncated or damaged ({error})") from error


@contextmanager
def _by_pillow(accept_damaged: bool = False) -> Iterator[None]:
    """Sets Pillow's global options, and hides its warnings; one thread at a time."""
    with _GLOBALS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = accept_damaged
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before


@_unusable()
def rgb(data: bytes, max_pixels: int, accept_damaged: bool = False, obey_profiles: bool = False) -> Image.Image:
    """The picture in RGB, upright, with 8 bits a channel.

    Grey, palette and CMYK pixels are converted, transparent pixels are put on white, and 16 bits are scaled to 8. An
    animation gives its first frame. The camera's note of the orientation is obeyed.

    Raises:
      UnusablePicture: it is empty, no JPEG, PNG or WebP, truncated, damaged, or has more than `max_pixels`.
    """
    rules = Rules(max_pixels, accept_damaged, obey_profiles)
    return _whole(read_header(data, rules), rules)


def square(image: Image.Image, side: int, part: Part = "crop") -> Image.Image:
    """The picture as side x side pixels.

    Bilinear, with a window that widens as the picture shrinks, so there is no aliasing. Only the pixels that are kept
    are computed. A picture of side x side pixels is returned as it is.

    Args:
      part: crop: the central square, after the shorter side is resized to `side`. crop_down: the same, but the longer
        side's length is rounded down, and half a pixel to the even number, as torchvision's Resize and CenterCrop
        do. squeeze: the whole picture, whatever its shape.
    """
    if image.size == (side, side):
        return image
    return image.resize((side, side), Image.Resampling.BILINEAR, box=_box(image.size, side, part))


def _box(size: tuple[int, int], side: int, part: Part) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the part that becomes the square."""
    width, height = size
    if part == "squeeze":
        return 0.0, 0.0, float(width), float(height)
    shorter = min(width, height)
    if part == "crop_down":
        new_width, new_height = side * width // shorter, side * height // shorter
        # Rounding to even makes a central crop of this square the same as torchvision's crop of the whole picture.
        left, top = round((new_width - side) / 2), round((new_height - side) / 2)
    else:
        new_width, new_height = round(width * side / shorter), round(height * side / shorter)
        left, top = centre_offset(new_width, side), centre_offset(new_height, side)
    across, down = width / new_width, height / new_height
    return left * across, top * down, min((left + side) * across, width), min((top + side) * down, height)


def square_in_bands(image: Image.Image, side: int, convert: colours.Convert, part: Part = "crop") -> Image.Image:
    """`square` of the converted picture, some rows or columns at a time: the converted picture is never in memory.

    The bytes are the same: Pillow too resizes along the longer side first, then along the other, and rounds between.
    """
    left, top, right, bottom = _box(image.size, side, part)
    width, height = image.size
    if width >= height:
        between = Image.new("RGB", (side, height))
        for (_, y), band in colours.bands(image, width, rows=max(1, colours.BAND // width)):
            across = (left, 0, right, band.height)
            between.paste(convert(band).resize((side, band.height), Image.Resampling.BILINEAR, across), (0, y))
        return between.resize((side, side), Image.Resampling.BILINEAR, (0, top, side, bottom))
    between = Image.new("RGB", (width, side))
    for (x, _), band in colours.bands(image, max(1, colours.BAND // height), rows=height):
        down = (0, top, band.width, bottom)
        between.paste(convert(band).resize((band.width, side), Image.Resampling.BILINEAR, down), (x, 0))
    return between.resize((side, side), Image.Resampling.BILINEAR, (left, 0, right, side))


@_unusable()
def square_of(data: bytes, side: int, rules: Rules) -> Square:
    """`square` of `rgb`, within a bounded memory: only one process at a time decodes a large picture.

    If a picture has more than LARGE pixels, its square is turned upright, and not the picture; a JPEG is shrunk while
    it is decoded.

    Raises:
      UnusablePicture: as `rgb`.
    """
    header = read_header(data, rules)
    is_rgb = header.format == JPEG and header.channels == 3
    is_large = header.pixels > (LARGE if is_rgb else LARGE_TO_CONVERT)
    with worker_processes.alone() if is_large else nullcontext():
        image = _square(header, side, rules)
    dim = header.deep and int(np.asarray(image).max()) < 256 // 8
    return Square(image, colours.kind_of_profile(header), dim)


@_unusable()
def square_of_image(image: Image.Image, side: int, obey_profiles: bool, part: Part = "crop") -> Image.Image:
    """`square` of a Pillow picture, in RGB.

    A picture that was just opened is turned upright, as a file is; any other may have been turned already.

    Raises:
      UnusablePicture: its file is truncated or damaged.
    """
    was_opened = isinstance(image, ImageFile.ImageFile)
    with _by_pillow():
        image.load()
    exif, profile = (image.info.get(name) or b"" for name in ("exif", "icc_profile"))
    header = Header("", image.width, image.height, b"", metadata=Metadata(exif=exif, profile=profile))
    made = colours.to_rgb(image, header, obey_profiles)
    return square(_upright(made, header.metadata) if was_opened else made, side, part)


def _whole(header: Header, rules: Rules) -> Image.Image:
    return _upright(colours.to_rgb(_decode(header, rules, shrink=1), header, rules.obey_profiles), header.metadata)


def _square(header: Header, side: int, rules: Rules) -> Image.Image:
    if header.pixels <= LARGE:
        return square(_whole(header, rules), side, rules.part)
    image = _decode(header, rules, _shrink(header))
    return _upright(
        square_in_bands(image, side, colours.converter(image, header, rules.obey_profiles), rules.part), header.metadata
    )


def read_header(data: bytes, rules: Rules) -> Header:
    """The file's header. Raises UnusablePicture if it is damaged, or the picture too large."""
    image_format = format_of(data)
    if image_format == JPEG:
        header = jpeg.read_header(data)
    elif image_format == PNG:
        header = png.read_header(data, rules.accept_damaged)
    else:
        header = read_webp_header(data)
    if not header.pixels:
        raise UnusablePicture("damaged header (it gives a picture without pixels)")
    if header.pixels > rules.max_pixels:
        raise UnusablePicture(
            f"{header.width}x{header.height} pixels, more than config.data.max_pixels, {rules.max_pixels:,}"
        )
    return header


def _decode(header: Header, rules: Rules, shrink: int) -> Image.Image:
    if header.format == JPEG:
        return jpeg.decode(header, rules.accept_damaged, shrink)
    with _by_pillow(rules.accept_damaged):
        image = Image.open(io.BytesIO(header.data), formats=[header.format])
        image.load()
    if image.size != (header.width, header.height):
        raise UnusablePicture("damaged header (it gives two different sizes)")
    if header.deep and isinstance(image.info.get("transparency"), tuple):  # of 16 bits; the pixels have 8
        image.info["transparency"] = tuple(value >> 8 for value in image.info["transparency"])
    return image


def _shrink(header: Header) -> int:
    """The factor by which a JPEG is shrunk, so that it is no longer large; 1, 2, 4 or 8."""
    shrink = 1
    while (
        header.format == JPEG
        and shrink < 8
        and header.pixels > LARGE * shrink**2
        and min(header.width, header.height) >= 2 * shrink * LEAST_SIDE
    ):
        shrink *= 2
    return shrink


def _upright(image: Image.Image, metadata: Metadata) -> Image.Image:
    turn = TURNS.get(_orientation(metadata))
    return image if turn is None else image.transpose(turn)


def _orientation(metadata: Metadata) -> int:
    """The orientation that the camera, or else a program, noted, 1 to 8; 1, upright, without a valid note."""
    found = None
    if metadata.exif:
        tags = Image.Exif()
        try:
            with _by_pillow():
                tags.load(metadata.exif)
                found = tags.get(ORIENTATION)
        except Exception:  # Pillow raises many kinds for damaged notes; the pixels are good
            pass
    if found is None and (match := re.search(rb'tiff:Orientation(?:="|>)([0-9])', metadata.xmp)):
        found = int(match[1])
    return found if isinstance(found, int) and found in TURNS else 1
