"""One picture file's bytes to an RGB square, and back to bytes; by Pillow, simplejpeg and NumPy.

Imports no TensorFlow, so that the processes that prepare a dataset start fast and stay small.
"""

import ctypes
import io
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT_BYTES = 32 << 20  # the most that it takes for the second

Image.MAX_IMAGE_PIXELS = None  # the limit is the config's, and it rejects instead of warning


@dataclass(frozen=True)
class Picture:
    """An encoded picture, its bytes given or still where they lie."""

    name: str  # of its file, as the dataset has it
    label: int
    path: str = ""  # the file that holds it
    offset: int = 0  # of its first byte there
    size: int = -1  # in bytes; -1: to the file's end
    data: bytes | None = None

    def read(self) -> bytes:
        """Its bytes. Raises OSError."""
        if self.data is not None:
            return self.data
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass(frozen=True)
class Squares:
    """What `make_squares` made of some pictures."""

    stored: list[bytes | None]  # JPEG or raw uint8, for each picture; None where it is rejected
    reasons: list[str]  # for each picture; empty where it is stored
    total: np.ndarray  # uint16 [side, side, 3], the sum of those stored
    products: np.ndarray  # float64 [3, 3], likewise of `products`


class UnusablePicture(Exception):
    """Why a picture cannot be used, in a few words."""


def rgb(data: bytes, max_pixels: int) -> Image.Image:
    """The picture in RGB, upright, 8 bits a channel.

    Grey, palette and CMYK are converted; what is transparent lies on white; 16 bits are scaled to
    8; of an animation the first frame is taken; a camera's note of its orientation is obeyed.

    Raises:
      UnusablePicture: empty, no picture, truncated, or of more than `max_pixels`.
    """
    if not data:
        raise UnusablePicture("empty file")
    try:
        image = Image.open(io.BytesIO(data))
    except Image.UnidentifiedImageError as error:
        raise UnusablePicture("not a picture") from error
    except Exception as error:  # Pillow's decoders raise many kinds for a damaged header
        raise UnusablePicture(f"damaged header ({error})") from error
    width, height = image.size
    if width * height > max_pixels:
        raise UnusablePicture(f"{width}x{height} pixels, more than config.data.max_pixels")
    try:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return _to_rgb(image)
    except Exception as error:  # likewise, for damaged pixels
        raise UnusablePicture(f"truncated or damaged ({error})") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):  # Pillow itself would clip at 255
        wide = np.asarray(image).astype(np.float64)
        return Image.fromarray(np.clip(np.round(wide / 257), 0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def square(image: Image.Image, side: int) -> Image.Image:
    """The central side x side pixels of the picture with its shorter side resized to `side`.

    Bilinear, with a window that widens as the picture shrinks (no aliasing). Only the pixels that
    are kept are computed. A picture that is `side` x `side` already comes back as it is.
    """
    width, height = image.size
    if width == height == side:
        return image
    shorter = min(width, height)
    new_width, new_height = round(width * side / shorter), round(height * side / shorter)
    left, top = (new_width - side) // 2, (new_height - side) // 2
    across, down = width / new_width, height / new_height
    box = (left * across, top * down, min((left + side) * across, width), min((top + side) * down, height))
    return image.resize((side, side), Image.Resampling.BILINEAR, box=box)


def to_jpeg(image: Image.Image, quality: int) -> bytes:
    """The picture as a baseline JPEG, quality 1 to 100."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def products(square: np.ndarray) -> np.ndarray:
    """float64 [3, 3], sums of the products of two channels over uint8 [side, side, 3]; exact.

    Four pixels a row, of which the diagonal blocks count: three times as fast as one. In float32, as
    256 products of two bytes add up to less than 2^24.
    """
    values = square.reshape(-1)
    rest = -len(values) % (256 * 12)
    if rest:
        values = np.pad(values, (0, rest))
    rows = values.reshape(-1, 256, 12).astype(np.float32)
    gram = np.matmul(rows.transpose(0, 2, 1), rows).sum(axis=0, dtype=np.float64)
    return np.einsum("iaib->ab", gram.reshape(4, 3, 4, 3))


def make_squares(pictures: Sequence[Picture], side: int, quality: int, max_pixels: int, summed: bool) -> Squares:
    """Reads the pictures, makes squares of them, encodes them and sums them up.

    The sums are over the pictures as they will be read again: after the loss of the JPEG.

    Args:
      pictures: 257 at most, for the sums to stay below 2^16.
      quality: of the JPEG, 1 to 100; 0 stores raw pixels.
      summed: whether the sums are wanted; they are 0 otherwise.
    """
    made = Squares([], [], np.zeros((side, side, 3), np.uint16), np.zeros((3, 3)))
    for picture in pictures:
        try:
            image = square(rgb(picture.read(), max_pixels), side)
        except UnusablePicture as error:
            made.stored.append(None)
            made.reasons.append(str(error))
            continue
        stored = to_jpeg(image, quality) if quality else image.tobytes()
        made.stored.append(stored)
        made.reasons.append("")
        if not summed:
            continue
        again = simplejpeg.decode_jpeg(stored) if quality else np.asarray(image)
        np.add(made.total, again, out=made.total)
        np.add(made.products, products(again), out=made.products)
    return made


def start_worker() -> None:
    """For a process that serves `make_squares`: leaves SIGINT to the parent, ends with it, and keeps its memory.

    The processes of a pool outlive a parent that was killed. And glibc gives each picture's memory back
    to the system, to ask for it again with the next one: a sixth of the time.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for what in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            libc.mallopt(what, KEPT_BYTES)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
