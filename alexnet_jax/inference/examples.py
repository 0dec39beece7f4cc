"""The few pictures that are shown of a run: chosen once by its seed, or files that a person names."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import centre_offset
from alexnet_jax.data.batches.batch import without_draws
from alexnet_jax.data.decode.squares import Picture
from alexnet_jax.inference import decode_pool
from alexnet_jax.inference.decode_pool import Rejected, Some
from alexnet_jax.inference.neighbour_sources import StoredSplit
from alexnet_jax.messages import say

PREDICTED, QUERIED = 8, 5  # pictures of the paper's Figure 4, left and right
WORDS = "words.txt"  # for each class its name, a tab, and what a person calls it; as prepared sets and imports have it


@dataclass(frozen=True, eq=False)
class Shown:
    """Pictures with what is known of them.

    Attributes:
      names: of files, or as the set has them.
      squares: uint8 [pictures, resize, resize, 3].
      labels: of each; None where nobody knows.
    """

    names: tuple[str, ...]
    squares: np.ndarray
    labels: tuple[int | None, ...]

    def first(self, count: int) -> "Shown":
        """The first of them, at most so many."""
        return Shown(self.names[:count], self.squares[:count], self.labels[:count])

    def centres(self, data: ConfigDict) -> np.ndarray:
        """uint8 [pictures, crop, crop, 3], what the network sees of each."""
        first = centre_offset(data.resize, data.crop)
        return self.squares[:, first : first + data.crop, first : first + data.crop]

    def batches(self, data: ConfigDict, size: int, whole: bool = False) -> Iterator[Some]:
        """The pictures as the devices take them, `size` at a time; whole squares for ten views."""
        images = self.squares if whole else self.centres(data)
        first = 0 if whole else centre_offset(data.resize, data.crop)
        for start in range(0, len(images), size):
            some = np.zeros((size, *images.shape[1:]), np.uint8)
            some[: len(images[start : start + size])] = images[start : start + size]
            yield Some(without_draws(some, first), list(self.names[start : start + size]))


def chosen(examples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a split, always the same: eight, and five others where there are so many."""
    order = np.random.default_rng(seed).permutation(examples)
    others = order[PREDICTED : PREDICTED + QUERIED]
    return order[:PREDICTED], others if len(others) == QUERIED else order[:QUERIED]


def from_split(config: ConfigDict, source: Any, split: str, rows: np.ndarray) -> Shown:
    """Those of a `PreparedSet`."""
    stored, listed = StoredSplit(config, source, split), rows.tolist()
    names = stored.names(listed)
    return Shown(tuple(names), stored.cut(listed, config.data.resize), tuple(stored.labels(listed)))


def from_files(data: ConfigDict, pictures: Sequence[Picture], most: int) -> tuple[Shown, list[Rejected]]:
    """The first pictures that can be used, `most` of them at most, and those before that cannot."""
    names, squares, rejected = [], [np.zeros((0, data.resize, data.resize, 3), np.uint8)], []
    with decode_pool.decoders(1) as pool:
        for one in decode_pool.read(pictures, data, pool):
            if one.square is None:
                say(f"{one.name} cannot be used: {one.reason}")
                rejected.append(Rejected(one.name, one.reason))
                continue
            names.append(one.name)
            squares.append(one.square[None])
            if len(names) == most:
                break
    return Shown(tuple(names), np.concatenate(squares), (None,) * len(names)), rejected


def called(classes: Sequence[str], *folders: Path) -> list[str]:
    """What a person calls each class: by the first words.txt there is, or its name."""
    for folder in folders:
        try:
            lines = (folder / WORDS).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            continue
        words = dict(line.split("\t", 1) for line in lines if "\t" in line)
        return [words.get(name, name).split(",")[0] for name in classes]
    return list(classes)
