"""The first layer's kernels as pictures, and how colourful each tower's are (section 6.1, Figure 3)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

IN_A_ROW = 16  # kernels, as in the paper's figure
GAP = 1  # pixels between two kernels


@dataclass(frozen=True)
class Colour:
    """How colourful the kernels of a tower are.

    Attributes:
      saturation: the mean over all pixels of all kernels, as `painted` paints them, of the saturation in HSV:
        (max - min) / max of red, green and blue, and 0 for black. From 0 to 1.
      opponent_share: the share of the kernels' energy, the sum of the squared weights, that is left when each pixel's
        mean weight is subtracted. It lies in the plane of the colour-opponent directions, (1, -1, 0) and (1, 1, -2);
        the rest lies along grey, (1, 1, 1). From 0, all grey, to 1. Independently drawn weights have 2/3, and kernels
        that are all 0 have 0.
    """

    kernels: int
    saturation: float
    opponent_share: float


def by_tower(kernel: Float[np.ndarray, "size size 3 maps"], towers: int) -> list[Float[np.ndarray, "own size size 3"]]:
    """The kernels of each tower; the first half of the maps is the first tower's."""
    return np.split(np.moveaxis(kernel, -1, 0), towers)


def painted(kernels: Float[np.ndarray, "own size size 3"], largest: float) -> Float[np.ndarray, "own size size 3"]:
    """The kernels as RGB from 0 to 1: a weight of -`largest` becomes 0, 0 becomes 0.5, `largest` becomes 1."""
    return 0.5 + 0.5 * kernels.astype(np.float64) / (largest or 1.0)


def colour(kernels: Float[np.ndarray, "own size size 3"], largest: float) -> Colour:
    """How colourful a tower's kernels are; `largest` is the scale that all towers share, as in `painted`."""
    rgb = painted(kernels, largest)
    most, least = rgb.max(axis=-1), rgb.min(axis=-1)
    saturation = np.divide(most - least, most, out=np.zeros_like(most), where=most > 0)
    weights = kernels.astype(np.float64)
    energy = np.square(weights).sum()
    opponent = np.square(weights - weights.mean(axis=-1, keepdims=True)).sum()
    return Colour(len(kernels), float(saturation.mean()), float(opponent / energy) if energy else 0.0)


def sheet(kernels: Float[np.ndarray, "own size size 3"], largest: float) -> UInt8[np.ndarray, "height width 3"]:
    """A picture of a tower's kernels in rows of 16 on white, with a pixel for each weight."""
    pixels = np.round(painted(kernels, largest) * 255).astype(np.uint8)
    count, side = pixels.shape[:2]
    columns, step = min(IN_A_ROW, count), side + GAP
    rows = -(-count // columns)
    image = np.full((rows * step - GAP, columns * step - GAP, 3), 255, np.uint8)
    for place, kernel in enumerate(pixels):
        row, column = divmod(place, columns)
        image[row * step : row * step + side, column * step : column * step + side] = kernel
    return image
