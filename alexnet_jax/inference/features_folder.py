"""A folder of features: a NumPy file for each stage with a row for each picture, and names.txt with the rows' names.

Rows are written and read some at a time, so that memory does not grow with their number.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.messages import UserError

NAMES_FILE, LABELS_FILE, ABOUT_FILE = "names.txt", "labels.npy", "features.json"
READ_BYTES = 64 << 20  # the rows that are read at a time


def file_of(stage: str) -> str:
    """The name of a stage's file: conv1_pool.npy for conv1/pool."""
    return f"{stage.replace('/', '_')}.npy"


def is_ours(name: str) -> bool:
    """Whether --mode=features writes files with such a name."""
    return name in (NAMES_FILE, ABOUT_FILE) or name.endswith(".npy")


class GrowingArray:
    """A .npy file to which rows are added; their number is written into its header at the end."""

    def __init__(self, path: Path, row: tuple[int, ...], dtype: str) -> None:
        """Begins the file. Raises OSError.

        Args:
          row: the shape of a row.
        """
        self.file = open(path, "wb")
        self._row, self._dtype, self._rows = row, np.dtype(dtype), 0
        self._length = self._write_header()

    def append(self, rows: np.ndarray) -> None:
        """Adds rows of the right shape. Raises OSError."""
        assert rows.shape[1:] == self._row, (rows.shape, self._row)
        self.file.write(np.ascontiguousarray(rows, self._dtype).data)
        self._rows += len(rows)

    def finish(self) -> None:
        """Writes the number of rows into the header, and closes the file. Raises OSError."""
        self.file.seek(0)
        length = self._write_header()
        assert length == self._length  # NumPy leaves room for more digits
        self.file.close()

    def _write_header(self) -> int:
        shape = (self._rows, *self._row)
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.file, header)
        return self.file.tell()


class FeaturesWriter(ExitStack):
    """Writes a folder of features; the end of its `with` closes the files."""

    def __init__(self, folder: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str, labelled: bool) -> None:
        """Begins the files. Raises OSError.

        Args:
          shapes: of one picture's features, by stage.
          dtype: float32 or float16.
          labelled: whether labels.npy is written.
        """
        super().__init__()
        self._folder, self._dtype, self.rows = folder, np.dtype(dtype), 0
        self._arrays = {stage: GrowingArray(folder / file_of(stage), row, dtype) for stage, row in shapes.items()}
        self._labels = GrowingArray(folder / LABELS_FILE, (), "int32") if labelled else None
        self._names = open(folder / NAMES_FILE, "w", encoding="utf-8", errors="surrogateescape", newline="\n")
        self._all = list(filter(None, (*self._arrays.values(), self._labels)))
        for file in (*(array.file for array in self._all), self._names):
            self.enter_context(file)

    def append(self, names: list[str], features: Mapping[str, np.ndarray], labels: np.ndarray | None) -> None:
        """Adds pictures.

        Args:
          features: float32 [pictures, ...] by stage.
          labels: int [pictures]; ignored unless the folder is labelled.

        Raises:
          OSError: the files cannot be written.
          UserError: a number is too large for the files' dtype.
        """
        for stage, rows in features.items():
            highest, most = np.abs(rows).max(initial=0), np.finfo(self._dtype).max
            if highest > most:
                raise UserError(
                    f"{stage} reaches {highest:.6g}, but {self._dtype} can hold at most {most:.6g}; leave out --dtype "
                    "to write float32"
                )
            self._arrays[stage].append(rows)
        if self._labels and labels is not None:
            self._labels.append(labels)
        self._names.writelines(f"{in_one_line(name)}\n" for name in names)
        self.rows += len(names)

    def finish(self, about: Mapping[str, Any]) -> None:
        """Completes the files, and writes features.json. Raises OSError.

        Args:
          about: what features.json says beside the number of rows.
        """
        for array in self._all:
            array.finish()
        self._names.close()
        (self._folder / ABOUT_FILE).write_text(json.dumps({"rows": self.rows, **about}, indent=2) + "\n")


def in_one_line(name: str) -> str:
    """The name as a line of names.txt: if it holds line ends, these and backslashes are escaped as in Python."""
    if not any(end in name for end in "\r\n"):
        return name
    return name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def about(folder: Path) -> dict[str, Any]:
    """The contents of features.json. Raises UserError if it cannot be read."""
    try:
        found: dict[str, Any] = json.loads((folder / ABOUT_FILE).read_text())
        return found
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"--features={folder} was not made by --mode=features ({ABOUT_FILE}: {why}); make a folder with "
            "--mode=features --layer=fc7"
        ) from error


def names_in(folder: Path) -> Iterator[str]:
    """The names in names.txt, row by row. Raises OSError."""
    with open(folder / NAMES_FILE, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        for line in file:
            yield line.removesuffix("\n")


def blocks_in(path: Path) -> Iterator[np.ndarray]:
    """The rows of a .npy file, in blocks of at most READ_BYTES. Raises OSError or ValueError."""
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        shape, is_fortran, dtype = (
            np.lib.format.read_array_header_1_0(file)
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0(file)
        )
        if is_fortran or dtype.hasobject or len(shape) < 2:
            raise ValueError(f"{path} does not hold rows of numbers")
        a_row = int(np.prod(shape[1:]))
        at_once = max(1, READ_BYTES // (a_row * dtype.itemsize))
        for first in range(0, shape[0], at_once):
            count = min(at_once, shape[0] - first)
            block = np.fromfile(file, dtype, count * a_row)
            if len(block) < count * a_row:
                raise ValueError(f"{path} ends before its last row")
            yield block.reshape(count, *shape[1:])
