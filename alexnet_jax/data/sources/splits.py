"""Which files in folders are pictures, and in which split: by the folders' names, or by holding out a share."""

import hashlib
import os
from collections.abc import Collection
from pathlib import Path

from alexnet_jax.data.sources.source import Tally
from alexnet_jax.messages import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")  # of pictures in folders, in upper or lower case
FOLDERS = {  # the names of each split's folder, in upper or lower case
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
LITTER = {  # of operating systems and their tools, in upper or lower case; hidden files are litter, too
    *("__macosx", "@eadir", "@synoresource", "@tmp", "#recycle", "@recycle", "#snapshot", "~snapshot"),
    *("$recycle.bin", "recycler", "recycled", "system volume information", "lost+found", "network trash folder"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini"),
}


def entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """The entries of a folder, sorted by name. Raises UserError if it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(
            f"'{folder}' cannot be read ({error.strerror}), and its pictures would be missing; make it readable, or "
            "move it away"
        ) from error


def is_litter(name: str) -> bool:
    """Whether a file or folder with this name is hidden, or was left behind by an operating system."""
    return name.startswith(".") or name.lower() in LITTER


def is_picture(name: str) -> bool:
    """Whether a file with this name may hold a picture."""
    return name.lower().endswith(SUFFIXES)


def reason_to_leave(name: str) -> str:
    """Why a file with this name is left out, as litter or as no picture; "" if it is not left out."""
    if is_litter(name):
        return "hidden, or of the operating system"
    if not is_picture(name):
        return f"no pictures by their names: {os.path.splitext(name)[1].lower() or 'no suffix'}"
    return ""


def leave_by_name(tally: Tally, name: str, where: str) -> bool:
    """Leaves out a file that is litter, or no picture by its name. Returns whether it did."""
    reason = reason_to_leave(name)
    if reason:
        tally.leave(reason, where)
    return bool(reason)


def split_named(name: str) -> str | None:
    """The split that a folder with this name holds, or None."""
    return next((split for split, names in FOLDERS.items() if name.lower() in names), None)


def split_folders(folder: Path, names: Collection[str]) -> dict[str, Path]:
    """The folders of splits in `folder`, by split, in the order of `FOLDERS`.

    Args:
      names: of the folders in it.

    Raises:
      UserError: two folders are for the same split.
    """
    found: dict[str, Path] = {}
    for split in FOLDERS:
        named = [name for name in names if split_named(name) == split]
        if len(named) > 1:
            raise UserError(
                f"'{folder}' has two folders for {split}, {named[0]} and {named[1]}; put their pictures into one, and "
                "remove the other"
            )
        if named:
            found[split] = folder / named[0]
    return found


def held_out(names: list[str], fraction: float) -> tuple[list[int], list[int]]:
    """Divides a class's files into training and validation.

    A digest of each file's own name decides, so the answer does not depend on the folder. If there are two files or
    more, each side gets at least one.

    Returns:
      The indices into `names` for training, and those for validation, in increasing order.
    """
    chosen = round(len(names) * fraction)
    chosen = min(max(chosen, 1), len(names) - 1) if len(names) > 1 else 0
    by_digest = sorted(range(len(names)), key=lambda i: (_digest(os.path.basename(names[i])), i))
    out = set(by_digest[:chosen])
    return [i for i in range(len(names)) if i not in out], sorted(out)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
