"""Splits of pictures that lie in folders: by the folders' names, or a share of each class held out."""

import hashlib
import os
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")  # of pictures in folders, in any case
FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}  # a split's names


def split_folder(folder: Path, split: str) -> Path | None:
    """The folder of a split in `folder`, by one of its names; None where there is none."""
    return next((folder / name for name in FOLDERS[split] if (folder / name).is_dir()), None)


def held_out(names: list[str], fraction: float) -> tuple[list[str], list[str]]:
    """A class's files, those for training and those for validation, each in the given order.

    Which ones is decided by a digest of each file's own name: the same wherever the files lie. Of
    two files or more at least one goes to either side.
    """
    chosen = round(len(names) * fraction)
    chosen = min(max(chosen, 1), len(names) - 1) if len(names) > 1 else 0
    by_digest = sorted(range(len(names)), key=lambda i: (_digest(os.path.basename(names[i])), i))
    out = set(by_digest[:chosen])
    return [n for i, n in enumerate(names) if i not in out], [n for i, n in enumerate(names) if i in out]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
