"""Splits of pictures that lie in folders: by the folders' names, or a share of each class held out."""

import hashlib
import os
from pathlib import Path

from alexnet_jax.data.sources.source import Tally
from alexnet_jax.messages import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")  # of pictures in folders, in any case
FOLDERS = {  # a split's names, in any case
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
LITTER = {  # of operating systems and their tools, in any case; besides what is hidden
    *("__macosx", "@eadir", "@synoresource", "@tmp", "#recycle", "@recycle", "#snapshot", "~snapshot"),
    *("$recycle.bin", "recycler", "recycled", "system volume information", "lost+found", "network trash folder"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini"),
}


def entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """What a folder holds, by name. Raises UserError if it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(
            f"'{folder}' cannot be read ({error.strerror}), and its pictures would be missing; see to it that it can, "
            "or move it away"
        ) from error


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or what an operating system leaves behind."""
    return name.startswith(".") or name.lower() in LITTER


def is_picture(name: str) -> bool:
    """Whether a file of this name may hold a picture."""
    return name.lower().endswith(SUFFIXES)


def leave_by_name(tally: Tally, name: str, where: str) -> bool:
    """Leaves out what is litter or no picture by its name. Returns whether it did."""
    if is_litter(name):
        tally.leave("hidden, or of the operating system", where)
    elif not is_picture(name):
        suffix = os.path.splitext(name)[1].lower()
        tally.leave(f"no pictures by their names: {suffix or 'no suffix'}", where)
    else:
        return False
    return True


def split_named(name: str) -> str | None:
    """The split that a folder of this name holds, if any."""
    return next((split for split, names in FOLDERS.items() if name.lower() in names), None)


def split_folder(folder: Path, split: str) -> Path | None:
    """The folder of a split in `folder`, by one of its names; None where there is none.

    Raises:
      UserError: there are two.
    """
    found = [Path(entry) for entry in entries(folder) if split_named(entry.name) == split and os.path.isdir(entry)]
    if len(found) > 1:
        raise UserError(
            f"'{folder}' has two folders for {split}, {found[0].name} and {found[1].name}; put their pictures into "
            "one, and remove the other"
        )
    return found[0] if found else None


def held_out(names: list[str], fraction: float) -> tuple[list[int], list[int]]:
    """Which of a class's files are for training and which for validation, by their places, in order.

    Decided by a digest of each file's own name: the same wherever the files lie. Of two files or more at
    least one goes to either side.
    """
    chosen = round(len(names) * fraction)
    chosen = min(max(chosen, 1), len(names) - 1) if len(names) > 1 else 0
    by_digest = sorted(range(len(names)), key=lambda i: (_digest(os.path.basename(names[i])), i))
    out = set(by_digest[:chosen])
    return [i for i in range(len(names)) if i not in out], sorted(out)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
