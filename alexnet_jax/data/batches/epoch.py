"""The random numbers of an epoch: the order of the pictures, and each picture's crop, reflection and lighting.

Randomness has no state. The order depends on the seed and the epoch; a picture's draws depend on the seed, the epoch
and the picture's number in the dataset. NumPy draws for a whole epoch at once: TensorFlow, picture by picture, would
take longer for the draws than for reading a raw picture.
"""

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float64, Int64
from ml_collections import ConfigDict

from alexnet_jax.data import centre_offset
from alexnet_jax.data.prepared.statistics import Statistics


def epoch_groups(
    lengths: Sequence[int], together: int, seed: int, epoch: int
) -> Iterator[tuple[tuple[int, ...], Int64[np.ndarray, " group"]]]:
    """An epoch's order: the files are shuffled, and then the examples in each group of files.

    Args:
      lengths: the number of examples in each file.
      together: the most examples in a group, which has one whole file at least.

    Yields:
      For each group its files, and the numbers of its examples in the dataset, in the order of their use.
    """
    first = np.concatenate([[0], np.cumsum(lengths)])
    queue = deque(int(file) for file in np.random.default_rng((seed, epoch)).permutation(len(lengths)))
    while queue:
        files = [queue.popleft()]
        size = lengths[files[0]]
        while queue and size + lengths[queue[0]] <= together:
            size += lengths[queue[0]]
            files.append(queue.popleft())
        numbers = np.concatenate([np.arange(first[f], first[f + 1]) for f in files])
        yield tuple(files), numbers[np.random.default_rng((seed, epoch, files[0])).permutation(size)]


def lighting_matrix(statistics: Statistics, augment: ConfigDict) -> Float64[np.ndarray, "3 3"]:
    """A column for each principal axis of RGB, scaled as the config says, on 0..255."""
    return statistics.lighting if augment.lighting == "eigenvalue" else statistics.root_lighting


class Draws:
    """The values drawn for the pictures of an epoch."""

    def __init__(self, config: ConfigDict, lighting: Float64[np.ndarray, "3 3"], examples: int, epoch: int) -> None:
        """Draws for all pictures.

        Args:
          lighting: see `lighting_matrix`.
          examples: the number of pictures in the split.
        """
        augment, room = config.augment, config.data.resize - config.data.crop
        self._per_draw = augment.pictures_per_draw
        count = -(-examples // self._per_draw)
        # The key has four words, so it differs from the orders' keys, which are shorter and filled up with zeros.
        rng = np.random.default_rng((config.train.seed, epoch, 0, 1))
        places = max(1, room + 1 if augment.offsets_inclusive else room)  # 33 or the paper's 32
        offsets = rng.integers(0, places, (count, 2), np.int16)
        reflected = rng.random(count, np.float32) < 0.5
        self._offsets = (
            offsets if augment.crops else np.full_like(offsets, centre_offset(config.data.resize, config.data.crop))
        )
        self._reflected = reflected if augment.reflections else np.zeros_like(reflected)
        rng = np.random.default_rng((config.train.seed, epoch, 0, 2))
        is_lit = epoch < (augment.lighting_until or np.inf)
        stddev = augment.lighting_stddev if is_lit else 0.0
        factors = stddev * rng.standard_normal((examples, 3), np.float32)
        axes = lighting.astype(np.float32)
        # A sum of three terms: the rounding of a matrix product would depend on the library and its threads.
        self._lighting = factors[:, :1] * axes[:, 0] + factors[:, 1:2] * axes[:, 1] + factors[:, 2:] * axes[:, 2]
        # The 2012 code scales a lit picture down, so that its pixels vary no more (convdata_jpeg.py:155-179).
        self._scale = 1 / (1 + augment.lighting_stddev) if is_lit and augment.lighting == "root" else 1.0

    def of(self, numbers: Int64[np.ndarray, " batch"], positions: Int64[np.ndarray, " batch"]) -> dict[str, np.ndarray]:
        """The fields `offset`, `reflected`, `lighting` and `scale` of a `Batch`.

        Args:
          numbers: of the pictures in the dataset.
          positions: of the pictures in the epoch; neighbours may share a crop and a reflection.
        """
        place = numbers if self._per_draw == 1 else positions // self._per_draw
        return {
            "offset": self._offsets[place].astype(np.int32),
            "reflected": self._reflected[place],
            "lighting": self._lighting[numbers],
            "scale": np.full(len(numbers), self._scale, np.float32),
        }
