"""Tars, read where they lie."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from alexnet_jax.messages import UserError


def open_tar(path: Path, file: IO[bytes] | None = None) -> tarfile.TarFile:
    """The tar at `path`, or the one inside of it that `file` reads. Raises UserError if it is none."""
    try:
        return tarfile.open(None if file else path, "r:", fileobj=file)
    except (tarfile.TarError, OSError) as error:
        raise damaged_tar(path, error) from error


def files_in(tar: tarfile.TarFile, where: Path | str) -> Iterator[tarfile.TarInfo]:
    """Its members that are files. Raises UserError, naming `where`, if it is not whole."""
    try:
        for member in tar:
            if member.isfile():
                yield member
    except tarfile.TarError as error:
        raise damaged_tar(where, error) from error


def damaged_tar(where: Path | str, error: Exception) -> UserError:
    """What to raise for `where`."""
    return UserError(f"{where} is no whole tar ({error}); get it anew, and the same command goes on")
