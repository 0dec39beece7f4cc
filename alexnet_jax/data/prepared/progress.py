"""The progress of a preparation, written to disk every few hundred pictures."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from alexnet_jax.data.prepared.statistics import Sums, load_arrays
from alexnet_jax.files import write_whole

STATE = "state.json"


@dataclass
class Progress:
    """How far a preparation is; bytes on disk beyond it do not count."""

    files: dict[str, list[int]] = field(default_factory=dict)  # for each split begun: each file's length in bytes
    examples: dict[str, list[int]] = field(default_factory=dict)  # and the number of pictures in each file
    done: dict[str, int] = field(default_factory=dict)  # for each split: pictures stored or rejected
    finished: list[str] = field(default_factory=list)  # splits
    listing: str = ""  # digest of the listing
    stamp: str = ""  # of the listing
    summed: str = ""  # the split of the sums; '' for none
    rejected: int = 0  # pictures
    rejected_bytes: int = 0  # of rejected.jsonl
    notes: dict[str, int] = field(default_factory=dict)  # on stored pictures, how often; see `squares.py`

    @property
    def pictures(self) -> int:
        """The number of pictures of the source, in all splits, that are stored or rejected."""
        return sum(self.done.values())

    def begin_split(self, split: str, files: int) -> None:
        """Adds a split with `files` empty files."""
        self.files[split], self.examples[split], self.done[split] = [0] * files, [0] * files, 0

    def save(self, folder: Path, sums: Sums) -> None:
        """Writes the sums, then the progress that refers to them, and then removes older sums."""
        newest = _sums_file(folder, self.pictures)
        with open(newest, "wb") as file:
            np.savez(file, count=sums.count, total=sums.total, products=sums.products)
        write_whole(folder / STATE, json.dumps(vars(self)), fsync=True, one_writer=True)
        for path in _all_sums(folder):
            if path != newest:
                path.unlink()


def is_begun(folder: Path) -> bool:
    """Whether the folder has progress to resume from."""
    return (folder / STATE).is_file()


def load_progress(folder: Path) -> tuple[Progress, Sums | None]:
    """What `Progress.save` wrote; None for the sums if a file is missing or damaged."""
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
    """Removes the files of a finished preparation."""
    for path in (*_all_sums(folder), folder / STATE):
        path.unlink()


def _sums_file(folder: Path, pictures: int) -> Path:
    return folder / f"sums-{pictures}.npz"


def _all_sums(folder: Path) -> list[Path]:
    return list(folder.glob("sums-*.npz"))
