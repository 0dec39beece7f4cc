"""The pictures among which the nearest are looked for: a prepared split, or a folder of features."""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import centre_offset
from alexnet_jax.data.decode.squares import Picture
from alexnet_jax.inference import decode_pool, features_folder
from alexnet_jax.inference.decode_pool import Some
from alexnet_jax.messages import Advance, UserError, say


class Gallery(Protocol):
    """Pictures by their rows."""

    classes: Sequence[str]  # names, by label; none where they are not known

    def names(self, rows: Sequence[int]) -> list[str]:
        """Of the pictures in these rows."""

    def labels(self, rows: Sequence[int]) -> list[int | None]:
        """Of the pictures in these rows; None where it is not known."""

    def centres(self, rows: Sequence[int]) -> list[np.ndarray | None]:
        """uint8 [crop, crop, 3] of each, as the network sees it; None where it cannot be had."""


class StoredSplit:
    """A prepared split."""

    def __init__(self, config: ConfigDict, source: Any, split: str) -> None:
        """Of the `PreparedSet`."""
        from alexnet_jax.data.prepared.stored_squares import StoredSquares

        self._config, self._source, self._split = config, source, split
        self._squares = StoredSquares(source, split)  # which checks each file once
        self.classes: Sequence[str] = source.classes

    def names(self, rows: Sequence[int]) -> list[str]:
        """As the set has them."""
        from alexnet_jax.data.prepared import prepared_set

        return _lines(prepared_set.file_names(self._source, self._split), rows)

    def labels(self, rows: Sequence[int]) -> list[int | None]:
        """As the set has them."""
        from alexnet_jax.data.prepared import prepared_set

        return prepared_set.labels_of_split(self._source, self._split)[list(rows)].tolist()

    def some(self, most: int) -> list[int]:
        """Rows that stand for all, `most` at most, out of as few files as have so many.

        Preparing deals pictures out to files by chance, and keeps the source's order in a file: so all of a file is
        gone through.
        """
        ends = np.cumsum(self._squares.lengths)
        end = int(ends[min(int(np.searchsorted(ends, most)), len(ends) - 1)])
        return np.linspace(0, end - 1, min(most, end)).round().astype(np.int64).tolist()

    def centres(self, rows: Sequence[int]) -> list[np.ndarray | None]:
        """As the set has them."""
        return list(self.cut(rows, self._config.data.crop))

    def cut(self, rows: Sequence[int], side: int) -> np.ndarray:
        """uint8 [rows, side, side, 3], the centres of the squares; a side of `data.resize` has them whole."""
        images = np.zeros((len(rows), side, side, 3), np.uint8)
        first = np.full((len(rows), 2), centre_offset(self._config.data.resize, side))
        self._squares.cut(images, np.asarray(rows, np.int64), first, np.zeros(len(rows), bool))
        return images


class FeaturesFolder:
    """What --mode=features wrote of files or of a split."""

    def __init__(self, folder: Path, config: ConfigDict, network: str, layer: str) -> None:
        """Looks at the folder.

        Args:
          network: the digest of the one that is used.
          layer: whose features are looked at.

        Raises:
          UserError: it is no such folder, or of another network, or lacks the layer.
        """
        self._folder, self._config, self._about = folder, config, features_folder.about(folder)
        self.classes: Sequence[str] = self._about.get("classes", ())
        self.file = folder / features_folder.file_of(layer)
        if self._about.get("network") != network:
            raise UserError(
                f"--features={folder} is of another network, or another of its checkpoints, than this run's; make it "
                f"anew with --mode=features --layer={layer}"
            )
        if layer not in self._about["files"] or not self.file.is_file():
            raise UserError(f"--features={folder} has no {layer}; make it with --mode=features --layer={layer}")

    def names(self, rows: Sequence[int]) -> list[str]:
        """From names.txt."""
        return _lines(features_folder.names_in(self._folder), rows)

    def labels(self, rows: Sequence[int]) -> list[int | None]:
        """From labels.npy, where there is one."""
        path = self._folder / features_folder.LABELS
        if not path.is_file():
            return [None] * len(rows)
        labels = np.load(path)
        return [int(labels[row]) for row in rows]

    def centres(self, rows: Sequence[int]) -> list[np.ndarray | None]:
        """From the files, or from the prepared split where it still lies where it was."""
        split, data = self._about["split"], self._config.data
        if split:
            return self._stored(split, rows)
        side, first = data.crop, centre_offset(data.resize, data.crop)
        files = [Picture(name, label=-1, path=name) for name in self.names(rows)]
        with ThreadPoolExecutor(1) as pool:
            squares = [one.square for one in decode_pool.read(files, data, pool)]
        return [None if square is None else square[first : first + side, first : first + side] for square in squares]

    def _stored(self, split: str, rows: Sequence[int]) -> list[np.ndarray | None]:
        from alexnet_jax.data.prepared import prepared_set

        try:
            source = prepared_set.open_set(Path(self._about["prepared"]), self._config.data)
            if source.listing != self._about.get("listing", source.listing):
                raise UserError(f"'{source.folder}' was prepared anew since, from other pictures")
            return StoredSplit(self._config, source, split).centres(rows)
        except UserError as error:
            say(f"the pictures cannot be drawn: {error}")
            return [None] * len(rows)


def _lines(names: Iterator[str], rows: Sequence[int]) -> list[str]:
    wanted, last = set(rows), max(rows, default=-1)
    found: dict[int, str] = {}
    for row, name in enumerate(names):
        if row in wanted:
            found[row] = name
        if row >= last:
            break
    return [found[row] for row in rows]


def stored_batches(
    config: ConfigDict, source: Any, split: str, size: int, whole: bool = False
) -> Generator[Some, None, None]:
    """The centre views of a prepared split, or whole squares, `size` at a time; a bar shows how far they are.

    Args:
      source: see `PreparedSet`.
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
