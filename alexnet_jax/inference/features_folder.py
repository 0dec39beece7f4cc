"""A folder of features: an array for each stage, a row a picture, written and read some rows at a time.

NAME.npy are NumPy's own files, and names.txt has the rows' names. Neither writing nor reading maps a
file into memory: what is held is what is handed over.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from alexnet_jax.messages import UserError

NAMES, LABELS, ABOUT = "names.txt", "labels.npy", "features.json"
READ_BYTES = 64 << 20  # of rows, at a time


def file_of(stage: str) -> str:
    """The file's name of a stage: conv1_pool.npy of conv1/pool."""
    return f"{stage.replace('/', '_')}.npy"


def is_ours(name: str) -> bool:
    """Whether a file of that name may be in a folder of features."""
    return name in (NAMES, ABOUT) or name.endswith(".npy")


class GrowingArray:
    """A .npy file to which rows are added; how many there are is written at the end."""

    def __init__(self, path: Path, row: tuple[int, ...], dtype: str) -> None:
        """Begins the file. Raises OSError.

        Args:
          row: the shape of one.
        """
        self._file = open(path, "wb")
        self._row, self._dtype, self._rows = row, np.dtype(dtype), 0
        self._length = self._write_header()

    def append(self, rows: np.ndarray) -> None:
        """Adds rows of the right shape. Raises OSError."""
        assert rows.shape[1:] == self._row, (rows.shape, self._row)
        self._file.write(np.ascontiguousarray(rows, self._dtype).data)
        self._rows += len(rows)

    def finish(self) -> None:
        """Says in the file how many rows there are. Raises OSError."""
        self._file.seek(0)
        length = self._write_header()
        assert length == self._length  # NumPy leaves room in it for the number of rows to grow
        self.close()

    def close(self) -> None:
        """Closes the file. Raises OSError."""
        self._file.close()

    def _write_header(self) -> int:
        shape = (self._rows, *self._row)
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        return self._file.tell()


class FeaturesWriter:
    """A folder of features in the making; its files are closed at the end of its `with`."""

    def __init__(self, folder: Path, rows: Mapping[str, tuple[int, ...]], dtype: str, labelled: bool) -> None:
        """Begins the files. Raises OSError.

        Args:
          rows: of each stage, the shape of a picture's.
          labelled: whether labels are written.
        """
        self._folder, self._dtype = folder, np.dtype(dtype)
        self._arrays = {stage: GrowingArray(folder / file_of(stage), row, dtype) for stage, row in rows.items()}
        self._labels = GrowingArray(folder / LABELS, (), "int32") if labelled else None
        self._names = open(folder / NAMES, "w", encoding="utf-8", errors="surrogateescape", newline="\n")
        self.rows = 0

    def append(self, names: list[str], features: Mapping[str, np.ndarray], labels: np.ndarray | None) -> None:
        """Adds rows. Raises OSError, and UserError for what the type of the files cannot hold."""
        for stage, rows in features.items():
            highest, most = np.abs(rows).max(initial=0), np.finfo(self._dtype).max
            if highest > most:
                raise UserError(
                    f"{stage} reaches {highest:.6g}, more than {self._dtype} can hold, {most:.6g}; leave --dtype out, "
                    "for float32"
                )
            self._arrays[stage].append(rows)
        if self._labels and labels is not None:
            self._labels.append(labels)
        self._names.writelines(f"{in_one_line(name)}\n" for name in names)
        self.rows += len(names)

    def __enter__(self) -> "FeaturesWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for array in self._all_arrays():
            array.close()
        self._names.close()

    def _all_arrays(self) -> list[GrowingArray]:
        return [*self._arrays.values(), *([self._labels] if self._labels else [])]

    def finish(self, about: Mapping[str, Any]) -> None:
        """Ends the files, with what is known of the whole. Raises OSError."""
        for array in self._all_arrays():
            array.finish()
        self._names.close()
        (self._folder / ABOUT).write_text(json.dumps({"rows": self.rows, **about}, indent=2) + "\n")


def in_one_line(name: str) -> str:
    """The name as names.txt has it: what would end a line is written as in Python, and so is the backslash then."""
    if not any(end in name for end in "\r\n"):
        return name
    return name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def about(folder: Path) -> dict[str, Any]:
    """What `FeaturesWriter.finish` wrote of the whole. Raises UserError if it is not there."""
    try:
        found: dict[str, Any] = json.loads((folder / ABOUT).read_text())
        return found
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"--features={folder} is no folder of --mode=features ({ABOUT}: {why}); make one with "
            "--mode=features --layer=fc7"
        ) from error


def names_in(folder: Path) -> Iterator[str]:
    """The rows' names."""
    with open(folder / NAMES, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        for line in file:
            yield line.removesuffix("\n")


def blocks_in(path: Path) -> Iterator[np.ndarray]:
    """The rows of a .npy file, some at a time. Raises OSError or ValueError."""
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        shape, is_fortran, dtype = (
            np.lib.format.read_array_header_1_0(file)
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0(file)
        )
        if is_fortran or dtype.hasobject or len(shape) < 2:
            raise ValueError(f"{path} holds no rows of numbers")
        a_row = int(np.prod(shape[1:]))
        at_once = max(1, READ_BYTES // (a_row * dtype.itemsize))
        for first in range(0, shape[0], at_once):
            count = min(at_once, shape[0] - first)
            block = np.fromfile(file, dtype, count * a_row)
            if len(block) < count * a_row:
                raise ValueError(f"{path} ends before its last row")
            yield block.reshape(count, *shape[1:])


def free_bytes(folder: Path) -> int:
    """On the disk of the folder, for this user."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
