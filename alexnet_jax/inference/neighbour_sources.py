"""The pictures among which neighbours are looked for: a prepared split, or a folder that --mode=features wrote."""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import centre_offset
from alexnet_jax.data.batches.batch import without_draws
from alexnet_jax.data.decode.squares import Picture
from alexnet_jax.inference import decode_pool, features_folder
from alexnet_jax.inference.decode_pool import Some
from alexnet_jax.messages import Advance, UserError, say


class Gallery(Protocol):
    """Pictures by their rows."""

    classes: Sequence[str]  # names by label; empty if unknown

    def names(self, rows: Sequence[int]) -> list[str]:
        """The names of the pictures in these rows."""

    def labels(self, rows: Sequence[int]) -> list[int | None]:
        """The labels of the pictures in these rows; None where unknown."""

    def centres(self, rows: Sequence[int]) -> list[np.ndarray | None]:
        """What the network sees of each, uint8 [crop, crop, 3]; None where the picture cannot be read."""


class StoredSplit:
    """A split of a prepared set."""

    def __init__(self, config: ConfigDict, source: Any, split: str) -> None:
        """Opens the split of a `PreparedSet`."""
        from alexnet_jax.data.prepared.stored_squares import StoredSquares

        self._config, self._source, self._split = config, source, split
        self._squares = StoredSquares(source, split)  # which checks each file once
        self.classes: Sequence[str] = source.classes

    def names(self, rows: Sequence[int]) -> list[str]:
        """The names of the pictures in these rows."""
        from alexnet_jax.data.prepared import prepared_set

        return _lines(prepared_set.file_names(self._source, self._split), rows)

    def labels(self, rows: Sequence[int]) -> list[int | None]:
        """The labels of the pictures in these rows."""
        from alexnet_jax.data.prepared import prepared_set

        return prepared_set.labels_of_split(self._source, self._split)[list(rows)].tolist()

    def some(self, most: int) -> list[int]:
        """At most `most` rows that represent the split, from as few files as hold so many.

        A file is a random sample but keeps the source's order, so the rows are taken from all of it.
        """
        ends = np.cumsum(self._squares.lengths)
        end = int(ends[min(int(np.searchsorted(ends, most)), len(ends) - 1)])
        return np.linspace(0, end - 1, min(most, end)).round().astype(np.int64).tolist()

    def centres(self, rows: Sequence[int]) -> list[np.ndarray | None]:
        """What the network sees of each, uint8 [crop, crop, 3]."""
        return list(self.cut(rows, self._config.data.crop))

    def cut(self, rows: Sequence[int], side: int) -> np.ndarray:
        """The centres of the squares, uint8 [rows, side, side, 3]; with a side of `data.resize` the whole squares."""
        images = np.zeros((len(rows), side, side, 3), np.uint8)
        offsets = np.full((len(rows), 2), centre_offset(self._config.data.resize, side))
        self._squares.cut(images, np.asarray(rows, np.int64), offsets, np.zeros(len(rows), bool))
        return images


class FeaturesFolder:
    """What --mode=features wrote for files or for a split."""

    def __init__(self, folder: Path, config: ConfigDict, network: str, layer: str) -> None:
        """Opens the folder.

        Args:
          network: the digest of the network in use.
          layer: whose features are searched.

        Raises:
          UserError: it is not such a folder, it is of another network, or it lacks the layer.
        """
        self._folder, self._config, self._about = folder, config, features_folder.about(folder)
        self.classes: Sequence[str] = self._about.get("classes", ())
        self.file = folder / features_folder.file_of(layer)
        if self._about.get("network") != network:
            raise UserError(
                f"--features={folder} was made with another network or checkpoint than this run's; make it anew with "
                f"--mode=features --layer={layer}"
            )
        if layer not in self._about["files"] or not self.file.is_file():
            raise UserError(f"--features={folder} has no {layer}; make it with --mode=features --layer={layer}")

    def names(self, rows: Sequence[int]) -> list[str]:
        """The names of the pictures in these rows, from names.txt."""
        return _lines(features_folder.names_in(self._folder), rows)

    def labels(self, rows: Sequence[int]) -> list[int | None]:
        """The labels of the pictures in these rows, from labels.npy; None without that file."""
        path = self._folder / features_folder.LABELS_FILE
        if not path.is_file():
            return [None] * len(rows)
        labels = np.load(path)
        return [int(labels[row]) for row in rows]

    def centres(self, rows: Sequence[int]) -> list[np.ndarray | None]:
        """What the network sees of each, from the files or the prepared split, if these are still where they were."""
        if self._about["split"]:
            return self._of_prepared_set(rows)
        side, data = self._config.data.crop, self._config.data
        first = centre_offset(data.resize, side)
        files = [Picture(name, label=-1, path=name) for name in self.names(rows)]
        with ThreadPoolExecutor(1) as pool:
            squares = [read.square for read in decode_pool.read(files, data, pool)]
        return [None if square is None else square[first : first + side, first : first + side] for square in squares]

    def _of_prepared_set(self, rows: Sequence[int]) -> list[np.ndarray | None]:
        from alexnet_jax.data.prepared import prepared_set

        try:
            source = prepared_set.open_set(Path(self._about["prepared"]), self._config.data)
            if source.listing != self._about["listing"]:
                raise UserError(f"'{source.folder}' has since been prepared anew, from other pictures")
            return StoredSplit(self._config, source, self._about["split"]).centres(rows)
        except UserError as error:
            say(f"the pictures cannot be drawn: {error}")
            return [None] * len(rows)


def _lines(names: Iterator[str], rows: Sequence[int]) -> list[str]:
    """The names in these rows, in the order of `rows`; stops reading at the last of them."""
    found: dict[int, str] = dict.fromkeys(rows, "")
    for row, name in enumerate(islice(names, max(rows, default=-1) + 1)):
        if row in found:
            found[row] = name
    return [found[row] for row in rows]


def padded(images: np.ndarray, names: list[str], size: int, offset: int) -> Some:
    """A batch of `size` rows, those after the images empty.

    Args:
      images: uint8 [pictures, side, side, 3].
      offset: the row and column of the square that the images begin at.
    """
    rows = np.zeros((size, *images.shape[1:]), np.uint8)
    rows[: len(images)] = images
    return Some(without_draws(rows, offset), names)


def stored_batches(
    config: ConfigDict, source: Any, split: str, size: int, whole: bool = False
) -> Generator[Some, None, None]:
    """Batches of a prepared split, `size` pictures each: centres, or whole squares. A bar shows the progress.

    Args:
      source: a `PreparedSet`.
    """
    from alexnet_jax.data.batches import pipeline
    from alexnet_jax.data.prepared import prepared_set

    config = config.copy_and_resolve_references()
    config.evaluate.batch_size = size
    names = prepared_set.file_names(source, split)
    with (
        pipeline.evaluation_batches(source, config, split, whole) as batches,
        Advance(split, source.examples(split), "pictures") as advance,
    ):
        for batch in batches:
            count = int(batch.mask.sum())
            yield Some(replace(batch, mask=None), list(islice(names, count)))
            advance.add(count)
