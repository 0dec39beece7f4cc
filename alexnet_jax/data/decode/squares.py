"""Picture files to encoded RGB squares, with sums for the statistics, by Pillow, simplejpeg and NumPy.

This imports no TensorFlow, so that the processes that prepare a dataset start fast and stay small.
"""

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import simplejpeg
from PIL import Image

from alexnet_jax.data.decode import worker_processes
from alexnet_jax.data.decode.decoder import LARGE_FILE, Rules, Square, rgb, square, square_of
from alexnet_jax.data.decode.headers import UnusablePicture
from alexnet_jax.data.decode.picture import Picture

__all__ = [
    "Picture",
    "Squares",
    "UnusablePicture",
    "make_squares",
    "products",
    "rgb",
    "square",
    "to_jpeg",
    "warnings_of",
]

PROFILE, BROKEN_PROFILE, DIM = "profile", "broken profile", "dim "  # notes; a label follows the last
NAMED = 5  # in a warning, at most


@dataclass(frozen=True)
class Squares:
    """The results of `make_squares`."""

    stored: list[bytes | None]  # for each picture JPEG or raw uint8; None if it is rejected
    reasons: list[str]  # for each picture why it is rejected; "" if it is stored
    total: np.ndarray  # uint16 [side, side, 3], the sum of the stored squares
    products: np.ndarray  # float64 [3, 3], the sum of their `products`
    notes: Counter[str] = field(default_factory=Counter)  # on the stored squares, see `_notes_of`


def to_jpeg(image: Image.Image, quality: int) -> bytes:
    """The picture as a baseline JPEG, quality 1 to 100."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def products(square: np.ndarray) -> np.ndarray:
    """The exact sums over all pixels of the products of each two channels.

    Four pixels make a row, and the diagonal blocks of the product are used: that is three times as fast as a pixel a
    row. float32 is exact, because 256 products of two bytes add up to less than 2^24.

    Args:
      square: uint8 [side, side, 3].

    Returns:
      float64 [3, 3].
    """
    values = square.reshape(-1)
    rest = -len(values) % (256 * 12)
    if rest:
        values = np.pad(values, (0, rest))
    rows = values.reshape(-1, 256, 12).astype(np.float32)
    gram = np.matmul(rows.transpose(0, 2, 1), rows).sum(axis=0, dtype=np.float64)
    return np.einsum("iaib->ab", gram.reshape(4, 3, 4, 3))


def make_squares(
    pictures: Sequence[Picture],
    side: int,
    quality: int,
    rules: Rules,
    summed: bool,
) -> Squares:
    """Reads pictures, makes squares of them, encodes the squares and sums them up.

    The sums are over the squares as they will be read again, after JPEG's losses.

    Args:
      pictures: at most 257, so that the sums stay below 2^16.
      quality: of the JPEG, 1 to 100; 0 stores raw pixels.
      summed: whether to compute the sums; they are 0 otherwise.
    """
    made = Squares([], [], np.zeros((side, side, 3), np.uint16), np.zeros((3, 3)))
    for picture in pictures:
        worker_processes.note(picture.name)
        try:
            one = _read_and_square(picture, side, rules)
        except UnusablePicture as error:
            made.stored.append(None)
            made.reasons.append(str(error))
            continue
        stored = to_jpeg(one.image, quality) if quality else one.image.tobytes()
        made.stored.append(stored)
        made.reasons.append("")
        made.notes.update(_notes_of(one, picture.label))
        if not summed:
            continue
        again = simplejpeg.decode_jpeg(stored) if quality else np.asarray(one.image)
        np.add(made.total, again, out=made.total)
        np.add(made.products, products(again), out=made.products)
    worker_processes.note("")
    return made


def _read_and_square(picture: Picture, side: int, rules: Rules) -> Square:
    """The picture's square. Raises UnusablePicture if its file cannot be read or used."""
    try:
        length = picture.length()
        if length > rules.max_bytes:
            raise UnusablePicture(f"{length} bytes, more than a picture of config.data.max_pixels can have")
        if length <= LARGE_FILE:
            return square_of(picture.read(), side, rules)
        with worker_processes.alone():
            return square_of(picture.read(), side, rules)
    except OSError as error:
        raise UnusablePicture(f"cannot be read ({error.strerror or error})") from error
    except MemoryError as error:
        raise UnusablePicture("needs more memory than is available") from error


def _notes_of(square: Square, label: int) -> list[str]:
    """The notes on a square: its profile is not sRGB, or of no use; it has 16 bits a channel and hardly uses them."""
    notes = {"other": [PROFILE], "broken": [BROKEN_PROFILE]}.get(square.profile, [])
    return [*notes, f"{DIM}{label}"] if square.dim else notes


def warnings_of(
    notes: Mapping[str, int], classes: Sequence[str], stored: Sequence[int], obey_profiles: bool
) -> Iterator[str]:
    """Sentences about the pictures that were stored.

    Args:
      notes: how often each note was made.
      classes: names, by label.
      stored: numbers of pictures, by label.
      obey_profiles: whether colours were converted to sRGB.
    """
    profiles, broken = notes.get(PROFILE, 0), notes.get(BROKEN_PROFILE, 0)
    if profiles and obey_profiles:
        yield f"converted from their own colour profiles to sRGB: {_pictures(profiles)}"
    elif profiles:
        yield (
            f"with colour profiles that are not sRGB, which are ignored: {_pictures(profiles)}; "
            "--config.data.colour_profiles=srgb converts them to sRGB"
        )
    if broken:
        yield f"with an unusable colour profile, so their colours are left unchanged: {_pictures(broken)}"
    dim = [
        name for label, name in enumerate(classes) if stored[label] and notes.get(f"{DIM}{label}", 0) == stored[label]
    ]
    if dim:
        more = f" and {len(dim) - NAMED} more" if len(dim) > NAMED else ""
        yield (
            f"all pictures of {', '.join(repr(name) for name in dim[:NAMED])}{more} have 16 bits a channel but use "
            "less than an eighth of that range, so they are nearly black here; unless they are meant to be, scale "
            "them to the full range and prepare anew"
        )


def _pictures(count: int) -> str:
    return f"{count} pictures" if count > 1 else "1 picture"
