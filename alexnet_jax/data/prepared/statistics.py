"""The statistics of a training set's pixels: the mean image and the covariance of RGB, from exact sums."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float32, Float64, Int64, Integer, UInt8

from alexnet_jax.data.decode import squares
from alexnet_jax.files import whole


@dataclass(frozen=True)
class Statistics:
    """The mean that is subtracted from a picture, and the covariance for its lighting."""

    mean_image: Float32[np.ndarray, "resize resize 3"]  # RGB from 0 to 255
    rgb_covariance: Float64[np.ndarray, "3 3"]  # of all pixels, with values from 0 to 1

    @property
    def lighting(self) -> Float64[np.ndarray, "3 3"]:
        """The principal axes of RGB as columns, times their eigenvalues, on 0..255 (section 4.1).

        The formula makes sense only for pixels from 0 to 1; its result is scaled to 0..255.
        """
        values, axes = np.linalg.eigh(self.rgb_covariance)
        return axes * values * 255

    @property
    def root_lighting(self) -> Float64[np.ndarray, "3 3"]:
        """The axes times the roots of their eigenvalues, on 0..255 (convdata_jpeg.py:155-179)."""
        values, axes = np.linalg.eigh(self.rgb_covariance)
        return axes * np.sqrt(np.maximum(values, 0)) * 255

    def with_mean(self, rgb: Sequence[float]) -> "Statistics":
        """The same, but every pixel of the mean image is `rgb`, from 0 to 255."""
        return replace(self, mean_image=np.tile(np.asarray(rgb, np.float32), (*self.mean_image.shape[:2], 1)))

    def save(self, path: Path) -> None:
        """Writes the file as a whole or not at all. Raises OSError."""
        with whole(path) as unfinished, open(unfinished, "wb") as file:
            np.savez(file, mean_image=self.mean_image, rgb_covariance=self.rgb_covariance)


def load_arrays(path: Path, *names: str) -> list[np.ndarray]:
    """The arrays with these names in a .npz file.

    Raises:
      ValueError: the file is missing, damaged, or lacks an array.
    """
    try:
        # np.load would leave a damaged file open that it opened itself.
        with open(path, "rb") as file, np.load(file) as arrays:
            return [arrays[name] for name in names]
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError, BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def load_statistics(path: Path, side: int) -> Statistics:
    """What `Statistics.save` wrote, for squares of `side` pixels a side.

    Raises:
      ValueError: the file is missing or damaged, or holds something else.
    """
    mean, covariance = load_arrays(path, "mean_image", "rgb_covariance")
    for name, array, dtype, shape in (
        ("mean_image", mean, np.float32, (side, side, 3)),
        ("rgb_covariance", covariance, np.float64, (3, 3)),
    ):
        if array.dtype != dtype or array.shape != shape:
            expected, found = f"{np.dtype(dtype)} {shape}", f"{array.dtype} {array.shape}"
            raise ValueError(f"{path} cannot be used: its {name} is {found} and should be {expected}")
        if not np.isfinite(array).all():
            raise ValueError(f"{path} cannot be used: its {name} has numbers that are not finite")
    return Statistics(mean, covariance)


@dataclass
class Sums:
    """Exact sums over uint8 pictures: their number, their pixels by place, and the products of their channels."""

    count: int
    total: Int64[np.ndarray, "side side 3"]
    products: Float64[np.ndarray, "3 3"]  # integers, exact to 2^53

    @classmethod
    def zero(cls, side: int) -> "Sums":
        """The sums over no pictures."""
        return cls(0, np.zeros((side, side, 3), np.int64), np.zeros((3, 3)))

    def add(self, count: int, total: Integer[np.ndarray, "side side 3"], products: Float64[np.ndarray, "3 3"]) -> None:
        """Adds the sums over `count` more pictures."""
        self.count += count
        self.total += total
        self.products += products

    def statistics(self) -> Statistics:
        """The mean image, and the covariance of all pixels' RGB."""
        mean = self.total / self.count
        rgb = mean.mean(axis=(0, 1))
        covariance = self.products / (self.count * mean.shape[0] * mean.shape[1]) - np.outer(rgb, rgb)
        return Statistics(mean.astype(np.float32), covariance / 255**2)


def statistics_of(batches: Iterable[UInt8[np.ndarray, "_ side side 3"]]) -> Statistics:
    """The statistics of pictures. Raises ValueError if there are none."""
    sums = None
    for images in batches:
        sums = sums or Sums.zero(images.shape[1])
        sums.add(
            len(images),
            images.sum(axis=0, dtype=np.int64),
            np.sum([squares.products(image) for image in images], axis=0),
        )
    if sums is None:
        raise ValueError("there is no picture from which to compute the mean and covariance")
    return sums.statistics()
