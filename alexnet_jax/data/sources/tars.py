"""Tars, read where they lie: of each member its name, place and size, and whether the tar is whole."""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from alexnet_jax.data.sources.source import Tally
from alexnet_jax.messages import UserError

BLOCK = 512  # bytes, of which a tar is made
PIECE = 1 << 20  # bytes that are looked at together


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar."""

    name: str  # with the folders that the tar has it in
    offset: int  # of its first byte, in the file that holds the tar
    size: int

    @property
    def base(self) -> str:
        """Its name without folders."""
        return os.path.basename(self.name)


def files_in(path: Path, tally: Tally, inner: Member | None = None) -> Iterator[Member]:
    """The files in the tar at `path`, in its order; only headers are read.

    Links and whatever else is no plain file are left out; the files are the caller's to take or leave.

    Args:
      inner: a member of it, which is a tar itself: the files in that one.

    Raises:
      UserError: there is no tar, a name is in it twice, or it does not go on to its end, two blocks of zeros.
    """
    where = f"{path}, {inner.name}" if inner else str(path)
    try:
        with open(path, "rb") as file:
            end = inner.offset + inner.size if inner else os.fstat(file.fileno()).st_size
            if end > os.fstat(file.fileno()).st_size:
                raise tarfile.ReadError("the tar that holds it ends before it")
            file.seek(inner.offset if inner else 0)
            with tarfile.open(None, "r:", fileobj=file) as tar:
                yield from _members(tar, end, tally, where)
                _require_end(file, tar.offset, end)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise UserError(f"{where} is no whole tar ({error}); get it anew, and the same command goes on") from error


def _members(tar: tarfile.TarFile, end: int, tally: Tally, where: str) -> Iterator[Member]:
    names = set[str]()
    while (found := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined] # or all of them stay in memory
        if found.isfile() and found.offset_data + found.size > end:
            raise tarfile.ReadError(f"it ends within {found.name}")
        if found.isdir():
            continue
        if found.name in names:
            raise UserError(f"{where} holds '{found.name}' twice; get it anew, or pack it again without one")
        names.add(found.name)
        if found.isfile() and not found.issparse():
            yield Member(found.name, found.offset_data, found.size)
        else:
            tally.leave("links, sparse files and others in tars that are no plain files", f"{where}, {found.name}")


def _require_end(file: BinaryIO, offset: int, end: int) -> None:
    """Raises ReadError unless two blocks of zeros begin at `offset`, and nothing else follows before `end`.

    Python's tarfile takes a header that is cut short, or any bytes that are none, for the end.
    """
    file.seek(offset)
    if offset + 2 * BLOCK > end or file.read(2 * BLOCK) != bytes(2 * BLOCK):
        raise tarfile.ReadError("it is cut short, or damaged: what should be its end is not")
    while piece := file.read(min(end - file.tell(), PIECE)):
        if any(piece):  # which nobody would ever see
            raise tarfile.ReadError("behind its end there is more, such as another tar that was put to it")
