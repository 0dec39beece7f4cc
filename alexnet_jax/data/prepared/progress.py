"""How far the preparation of a set is, as it is written down every few hundred pictures."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from alexnet_jax.data.prepared.statistics import Sums, load_arrays

STATE = "state.json"


@dataclass
class Progress:
    """How far a preparation is; what lies on disk beyond it does not count."""

    files: dict[str, list[int]] = field(default_factory=dict)  # of each split begun: each file's length in bytes
    examples: dict[str, list[int]] = field(default_factory=dict)  # and the pictures in it
    done: dict[str, int] = field(default_factory=dict)  # of each split: pictures of the source that are dealt with
    finished: list[str] = field(default_factory=list)  # splits that are through
    listing: str = ""  # digest of the list that the numbers count
    stamp: str = ""  # of the times of the files that were listed
    summed: str = ""  # the split that the sums are of; '': none
    rejected: int = 0
    rejected_bytes: int = 0  # of rejected.jsonl
    notes: dict[str, int] = field(default_factory=dict)  # of those stored, how often each was made; see notes.py

    @property
    def pictures(self) -> int:
        """Of the source, of all splits, that are dealt with."""
        return sum(self.done.values())

    def begin_split(self, split: str, files: int) -> None:
        """Notes so many files of a split, with nothing in them."""
        self.files[split], self.examples[split], self.done[split] = [0] * files, [0] * files, 0

    def save(self, folder: Path, sums: Sums) -> None:
        """The sums first, then what refers to them, by one renaming; then away with older sums."""
        newest = _sums_file(folder, self.pictures)
        with open(newest, "wb") as file:
            np.savez(file, count=sums.count, total=sums.total, products=sums.products)
        unfinished = folder / f".{STATE}"
        with open(unfinished, "w") as file:
            file.write(json.dumps(vars(self)))
            file.flush()
            os.fsync(file.fileno())  # or a power cut leaves an empty file under the name
        os.replace(unfinished, folder / STATE)
        for path in _all_sums(folder):
            if path != newest:
                path.unlink()


def is_begun(folder: Path) -> bool:
    """Whether there is progress in the folder to go on from."""
    return (folder / STATE).is_file()


def load_progress(folder: Path) -> tuple[Progress, Sums | None]:
    """What `Progress.save` wrote; no sums where a file of it is not there or is not whole."""
    try:
        progress = Progress(**json.loads((folder / STATE).read_text()))
    except (OSError, ValueError, TypeError):
        return Progress(), None
    try:
        count, total, products = load_arrays(_sums_file(folder, progress.pictures), "count", "total", "products")
        return progress, Sums(int(count), total, products)
    except (ValueError, TypeError):
        return progress, None


def remove_progress(folder: Path) -> None:
    """For a set that is finished."""
    for path in (*_all_sums(folder), folder / STATE):
        path.unlink()


def _sums_file(folder: Path, pictures: int) -> Path:
    return folder / f"sums-{pictures}.npz"


def _all_sums(folder: Path) -> list[Path]:
    return list(folder.glob("sums-*.npz"))
