"""A few example pictures for figures: of a split, chosen by the run's seed, or files that a person names."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import centre_offset
from alexnet_jax.data.decode.squares import Picture
from alexnet_jax.data.prepared.class_words import read_words
from alexnet_jax.inference import decode_pool
from alexnet_jax.inference.decode_pool import Rejected, Some
from alexnet_jax.inference.neighbour_sources import StoredSplit, padded
from alexnet_jax.messages import say

PREDICTED, QUERIED = 8, 5  # pictures in the paper's Figure 4, left and right


@dataclass(frozen=True, eq=False)
class Examples:
    """Pictures with their labels.

    Attributes:
      names: of their files, or as in the prepared set.
      squares: uint8 [pictures, resize, resize, 3].
      labels: None where unknown.
    """

    names: tuple[str, ...]
    squares: np.ndarray
    labels: tuple[int | None, ...]

    def first(self, count: int) -> "Examples":
        """The first `count` pictures, or all if there are fewer."""
        return Examples(self.names[:count], self.squares[:count], self.labels[:count])

    def centres(self, data: ConfigDict) -> np.ndarray:
        """What the network sees: uint8 [pictures, crop, crop, 3]."""
        first = centre_offset(data.resize, data.crop)
        return self.squares[:, first : first + data.crop, first : first + data.crop]

    def batches(self, data: ConfigDict, size: int, whole: bool = False) -> Iterator[Some]:
        """Batches of `size` pictures: centres, or whole squares for ten views."""
        images = self.squares if whole else self.centres(data)
        offset = 0 if whole else centre_offset(data.resize, data.crop)
        for start in range(0, len(images), size):
            yield padded(images[start : start + size], list(self.names[start : start + size]), size, offset)


def chosen(examples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a split, the same for the same seed: eight to predict, and five others to look for neighbours of.

    Args:
      examples: in the split. With fewer than thirteen the five are among the eight.
    """
    order = np.random.default_rng(seed).permutation(examples)
    others = order[PREDICTED : PREDICTED + QUERIED]
    return order[:PREDICTED], others if len(others) == QUERIED else order[:QUERIED]


def from_split(config: ConfigDict, source: Any, split: str, rows: np.ndarray) -> Examples:
    """The pictures in these rows of a split of a `PreparedSet`."""
    stored, listed = StoredSplit(config, source, split), rows.tolist()
    return Examples(tuple(stored.names(listed)), stored.cut(listed, config.data.resize), tuple(stored.labels(listed)))


def from_files(data: ConfigDict, pictures: Sequence[Picture], most: int) -> tuple[Examples, list[Rejected]]:
    """The first `most` pictures that can be used, and those before them that cannot."""
    names, squares, rejected = [], [np.zeros((0, data.resize, data.resize, 3), np.uint8)], []
    with decode_pool.decoders(1) as pool:
        for read in decode_pool.read(pictures, data, pool):
            if read.square is None:
                say(f"{read.name} cannot be used: {read.reason}")
                rejected.append(Rejected(read.name, read.reason))
                continue
            names.append(read.name)
            squares.append(read.square[None])
            if len(names) == most:
                break
    return Examples(tuple(names), np.concatenate(squares), (None,) * len(names)), rejected


def called(classes: Sequence[str], *folders: Path) -> list[str]:
    """What people call each class, by the first of the folders that has a words.txt; else the class's name."""
    words = next(filter(None, map(read_words, folders)), {})
    return [words.get(name, name).split(",")[0] if words else name for name in classes]
