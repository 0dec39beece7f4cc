"""Cuts crops out of the files of a prepared set, which are mapped into memory."""

from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import simplejpeg
from jaxtyping import Bool, Int32, Int64, Integer, UInt8

from alexnet_jax.data.prepared.prepared_set import REMEDY, PreparedSet, index_of
from alexnet_jax.data.tensorflow import tf
from alexnet_jax.messages import UserError

Part = tuple[str, int, int]  # a file's name, records to skip, and records to take


class StoredSquares:
    """The squares of a split."""

    def __init__(self, source: PreparedSet, split: str) -> None:
        """Opens nothing yet. Raises UserError if there is no such split."""
        source.examples(split)
        files = source.builder.info.splits[split].file_instructions
        self._files: list[Part] = [
            (str(f.filename), f.skip, f.examples_in_shard - f.skip if f.take == -1 else f.take) for f in files
        ]
        self.lengths = [take for _, _, take in self._files]  # pictures in each file
        self._source, self._resize, self._encoding = source, source.resize, source.encoding
        self._first = np.concatenate([[0], np.cumsum(self.lengths)])
        self._checked: set[int] = set()
        self._one_at_a_time = Lock()
        self._opened = lru_cache(maxsize=64)(self._open)  # each holds a file descriptor

    def cut(
        self,
        images: UInt8[np.ndarray, "batch side side 3"],
        numbers: Int64[np.ndarray, " wanted"],
        offset: Integer[np.ndarray, "batch 2"],
        reflected: Bool[np.ndarray, " batch"],
    ) -> Int32[np.ndarray, " wanted"]:
        """Fills the first of `images` with crops.

        Args:
          images: the first ones are filled, one for each number.
          numbers: the pictures' numbers in the split.
          offset: the row and column of each crop's first pixel.
          reflected: whether to mirror the crop, left to right.

        Returns:
          The labels.

        Raises:
          UserError: a file is missing or has a damaged record; each file is checked when it is first used.
        """
        size = images.shape[1]
        labels = np.empty(len(numbers), np.int32)
        files = np.searchsorted(self._first, numbers, side="right") - 1
        for i, (number, file) in enumerate(zip(numbers.tolist(), files.tolist(), strict=True)):
            with self._one_at_a_time:
                content, starts, labels_there = self._opened(file)
            place = number - int(self._first[file])
            labels[i] = labels_there[place]
            row, column = offset[i]
            square = self._square(file, place, content[starts[place] : starts[place + 1]])
            crop = square[row : row + size, column : column + size]
            if reflected[i]:
                for channel in range(3):  # a channel at a time is seven times as fast as all at once
                    images[i, :, :, channel] = crop[:, ::-1, channel]
            else:
                images[i] = crop
        return labels

    def _square(
        self, file: int, place: int, stored: UInt8[np.ndarray, " bytes"]
    ) -> UInt8[np.ndarray, "resize resize 3"]:
        """The square that begins `stored`, which holds the rest of its record, too."""
        side = self._resize
        if self._encoding == "raw":
            return stored[: side * side * 3].reshape(side, side, 3)
        try:
            return simplejpeg.decode_jpeg(stored)
        except ValueError as error:
            name, skip, _ = self._files[file]
            raise UserError(f"record {skip + place} of '{name}' cannot be decoded ({error}); {REMEDY}") from error

    def _open(self, file: int) -> tuple[UInt8[np.ndarray, " bytes"], list[int], list[int]]:
        """A file's bytes; where each of its pictures begins, and where the last record ends; and the labels."""
        name, skip, take = self._files[file]
        if file not in self._checked:
            damage = _damage_in(self._files[file])
            if damage:
                raise UserError(damage)
            self._checked.add(file)
        index = index_of(self._source, Path(name).name)
        content = np.asarray(np.memmap(name, np.uint8, "r"))
        starts = [*index["offset"].tolist(), len(content)]
        return content, starts[skip : skip + take + 1], index["label"][skip : skip + take].tolist()


def _damage_in(file: Part) -> str | None:
    """What is wrong with the file, by the checksums of its records; None if nothing is."""
    name, skip, take = file
    record = 0
    try:
        for _ in tf.data.TFRecordDataset(name):
            record += 1
    except tf.errors.NotFoundError:
        return f"'{name}' of the prepared set is missing; {REMEDY}"
    except tf.errors.DataLossError:
        return f"record {record} of '{name}' is damaged (counted from 0); {REMEDY}"
    except tf.errors.OpError as error:
        return f"'{name}' of the prepared set cannot be read ({type(error).__name__}); {REMEDY}"
    if record < skip + take:
        return f"'{name}' ends after {record} records and should have at least {skip + take}; {REMEDY}"
    return None
