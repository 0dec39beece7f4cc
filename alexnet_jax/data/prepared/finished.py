"""The last moment of a preparation: the folder gets its place, and whatever is left over goes."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from alexnet_jax.data.prepared import duplicates
from alexnet_jax.data.prepared.progress import is_begun, remove_progress
from alexnet_jax.locks import LOCK


def put_in_place(work: Path, folder: Path) -> None:
    """Gives the finished folder its name. Raises OSError."""
    if folder.exists():  # one of another listing; killed between the two renamings, it comes back
        os.replace(folder, _replaced(folder))
    os.replace(work, folder)
    tidy(folder)


def _replaced(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.replaced")


def tidy(folder: Path) -> None:
    """Does what a preparation that was killed at its very end left to do, if anything."""
    replaced = _replaced(folder)
    with suppress(OSError):  # where nothing can be written, nothing was prepared
        if replaced.exists() and not folder.exists():
            os.replace(replaced, folder)
        elif folder.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            if is_begun(folder):
                for path in folder.glob(duplicates.digests_name("*")):
                    path.unlink()
                (folder / LOCK).unlink(missing_ok=True)
                remove_progress(folder)
