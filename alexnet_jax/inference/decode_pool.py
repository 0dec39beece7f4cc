"""Pictures to batches for a network in use: all cores make squares, a bounded number ahead, without TensorFlow."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict
from PIL import Image

from alexnet_jax.data import centre_offset
from alexnet_jax.data.batches.batch import Batch, without_draws
from alexnet_jax.data.decode import decoder, squares, worker_processes
from alexnet_jax.data.decode.squares import Picture, UnusablePicture
from alexnet_jax.data.decode.worker_processes import bounded_map, lists

PICTURES_A_TASK = 16  # that a process or thread gets at a time
FOR_PROCESSES = 256  # pictures; for fewer, starting processes takes longer than decoding


class Read(NamedTuple):
    """A picture that was read, or could not be read."""

    name: str
    square: UInt8[np.ndarray, "resize resize 3"] | None
    reason: str  # why it could not be read; "" if it could


class Rejected(NamedTuple):
    """A picture that cannot be used."""

    file: str
    reason: str


@dataclass(frozen=True)
class Some:
    """A batch of pictures for the devices."""

    batch: Batch  # all batches have the same number of rows; rows beyond the names are empty
    names: list[str]
    rejected: list[Rejected] = field(default_factory=list)  # pictures met since the last batch


def decoders(count: int) -> AbstractContextManager[Executor]:
    """The pool for so many pictures: processes, which a damaged file may kill, or threads for few pictures."""
    return worker_processes.processes() if count >= FOR_PROCESSES else ThreadPoolExecutor(worker_processes.cores())


def batches(
    given: Sequence[Picture | Image.Image], data: ConfigDict, pool: Executor, whole: bool, size: int
) -> Iterator[Some]:
    """Batches of `size` pictures, in their order, with the pictures that cannot be used named beside them.

    Args:
      given, data, pool: see `read`.
      whole: whether to take the whole square of each picture, instead of its central crop.
    """
    side = data.resize if whole else data.crop
    first = centre_offset(data.resize, side)

    def room() -> UInt8[np.ndarray, "size side side 3"]:
        return np.zeros((size, side, side, 3), np.uint8)

    images = room()
    names: list[str] = []
    rejected: list[Rejected] = []
    for one in read(given, data, pool):
        if one.square is None:
            rejected.append(Rejected(one.name, one.reason))
            continue
        images[len(names)] = one.square[first : first + side, first : first + side]
        names.append(one.name)
        if len(names) == size:
            yield Some(without_draws(images, first), names, rejected)
            images, names, rejected = room(), [], []
    if names or rejected:
        yield Some(without_draws(images, first), names, rejected)


def read(given: Sequence[Picture | Image.Image], data: ConfigDict, pool: Executor) -> Iterator[Read]:
    """Every picture in its order, made as preparing makes it, but not encoded as JPEG.

    Args:
      given: files, or pictures in memory, which this thread makes squares of.
      data: the config's group.
      pool: decodes the files; it is given at most two chunks for each core at a time.
    """
    make = partial(
        squares.make_squares,
        side=data.resize,
        quality=0,
        rules=decoder.rules_of(data),
        summed=False,
    )
    for _, group in groupby(enumerate(given), key=lambda numbered: isinstance(numbered[1], Picture)):
        of_one_kind = list(group)
        for number, image in of_one_kind:
            if isinstance(image, Image.Image):
                yield _in_memory(f"picture {number}", image, data)
        chunks = lists((file for _, file in of_one_kind if isinstance(file, Picture)), PICTURES_A_TASK)
        for chunk, made in bounded_map(pool, make, chunks, 2 * worker_processes.cores()):
            for picture, stored, reason in zip(chunk, made.stored, made.reasons, strict=True):
                yield Read(picture.name, None if stored is None else _array(stored, data.resize), reason)


def _array(stored: bytes, side: int) -> UInt8[np.ndarray, "{side} {side} 3"]:
    return np.frombuffer(stored, np.uint8).reshape(side, side, 3)


def _in_memory(name: str, image: Image.Image, data: ConfigDict) -> Read:
    try:
        square = decoder.square_of_image(image, data.resize, data.colour_profiles == "srgb", data.square)
    except UnusablePicture as error:
        return Read(name, None, str(error))
    return Read(name, np.asarray(square), "")
