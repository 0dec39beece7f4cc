"""Tars, read where they lie."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

from alexnet_jax.messages import UserError


def open_tar(path: Path) -> tarfile.TarFile:
    """The tar at `path`. Raises UserError if it is none."""
    try:
        return tarfile.open(path, "r:")
    except (tarfile.TarError, OSError) as error:
        raise damaged_tar(path, error) from error


def open_inner_tar(outer: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> tarfile.TarFile:
    """The tar that is a member of `outer`, which lies at `path`. Raises UserError if it is none."""
    try:
        return tarfile.open(None, "r:", fileobj=outer.extractfile(member))
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
